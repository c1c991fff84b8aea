package replsim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/oklog/ulid/v2"
	"github.com/sirupsen/logrus"

	"originchain/shared/clock"
	"originchain/shared/datadir"
	"originchain/shared/engine"
	"originchain/shared/lsn"
	recovery "originchain/shared/recover"
	"originchain/shared/simdisk"
	"originchain/shared/wal"
)

// frameID is a frame with all of its history.
type frameID struct {
	at    lsn.Pos
	chain lsn.Chain
}

// remember notes what a node's disk has when it is stopped: none of it may be
// lost in silence.
func (s *sim) remember(name string) {
	disk := s.disks[name].KillClone()
	ids := s.framesOf(disk)
	for id := range ids {
		s.known[name][id] = true
	}
}

func openLog(disk *simdisk.Disk) (*wal.Log, error) {
	log := logrus.New()
	log.SetOutput(io.Discard)
	id, err := instanceOf(disk)
	if err != nil {
		return nil, err
	}
	return wal.Open(wal.Options{FS: disk, Dir: dataDir + "/log", Instance: [16]byte(id), SegmentBytes: 24 << 10, Log: log, NoPreallocate: true})
}

// instanceOf is whose data directory a disk has; zero where it is nobody's yet.
func instanceOf(disk *simdisk.Disk) (ulid.ULID, error) {
	f, err := disk.Open(dataDir + "/instance.json")
	if err != nil {
		return ulid.ULID{}, err
	}
	var id datadir.Identity
	err = json.NewDecoder(f).Decode(&id)
	return id.InstanceID, errors.Join(err, f.Close())
}

// framesOf are the frames of a log; of one that is just being replaced, none.
func (s *sim) framesOf(disk *simdisk.Disk) map[frameID]bool {
	out := map[frameID]bool{}
	if _, err := disk.Stat(dataDir + "/log"); err != nil {
		return out
	}
	log, err := openLog(disk)
	if err != nil {
		s.say("the log does not open: %v", err)
		return out
	}
	defer func() { _ = log.Close() }()
	if log.FirstLSN() == 0 {
		return out
	}
	r, err := log.NewReader(log.FirstLSN())
	if err != nil {
		s.fail("read a log: %v", err)
		return out
	}
	defer func() { _ = r.Close() }()
	for {
		f, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			s.fail("read a log: %v", err)
			return out
		}
		out[frameID{lsn.Pos{LSN: f.LSN, Epoch: f.Epoch}, f.Chain}] = true
	}
}

// aside are the frames of a node's divergent files.
func (s *sim) aside(disk *simdisk.Disk) map[frameID]bool {
	out := map[frameID]bool{}
	names, err := disk.List(dataDir)
	if err != nil {
		s.fail("%v", err)
	}
	for _, name := range names {
		var epoch, first uint64
		if _, err := fmt.Sscanf(name, "divergent-%016x-%016x.log", &epoch, &first); err != nil {
			continue
		}
		seg, err := wal.OpenSegment(disk, dataDir+"/"+name)
		if err != nil {
			s.fail("%s: %v", name, err)
			continue
		}
		for {
			f, _, err := seg.Next()
			if errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				s.fail("%s: %v", name, err)
				break
			}
			out[frameID{lsn.Pos{LSN: f.LSN, Epoch: f.Epoch}, f.Chain}] = true
		}
		_ = seg.Close()
	}
	return out
}

// check holds everything that was seen against the line that is left.
func (s *sim) check() {
	if s.t.Failed() {
		return
	}
	for _, n := range s.names {
		s.stop(n)
	}
	rec, _, err := s.store.Load(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	s.counts.Epochs = int(rec.Epoch)
	line := map[lsn.LSN]frameID{}
	first := lsn.LSN(0)
	for id := range s.framesOf(s.disks[rec.Holder].KillClone()) {
		line[id.at.LSN] = id
		if first == 0 || id.at.LSN < first {
			first = id.at.LSN
		}
	}
	for _, n := range s.names {
		s.checkNode(n, line, first)
	}
	s.checkPlaces(line, first)
	s.checkSights()
	for _, o := range s.history {
		if o.Output.(output).unknown {
			s.counts.Unknown++
		}
	}
	if r := porcupine.CheckOperationsTimeout(registerModel, s.history, 0); r != porcupine.Ok {
		s.fail("the history of the registers is not linearizable: %s", r)
		for _, o := range s.history {
			s.say("%d-%d %+v %+v", o.Call/int64(time.Millisecond), o.Return/int64(time.Millisecond), o.Input, o.Output)
		}
	}
}

// checkNode: the log is the line's, or a beginning of it with what was not yet
// committed; the state has the line's digest; and of all frames that the node ever
// had, those off the line are in its divergent files.
func (s *sim) checkNode(name string, line map[lsn.LSN]frameID, first lsn.LSN) {
	disk := s.disks[name]
	own, aside := s.framesOf(disk.KillClone()), s.aside(disk)
	s.counts.Aside += len(aside)
	for id := range own {
		if on, ok := line[id.at.LSN]; ok && on != id {
			s.fail("%s has %s in its log, the writer %s", name, id.at, on.at)
		}
	}
	for id := range s.known[name] {
		if id.at.LSN >= first && line[id.at.LSN] != id && !aside[id] && !own[id] {
			s.fail("%s once had %s, which is neither on the line nor in a divergent file", name, id.at)
		}
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	cfg := engineConfig(name)
	cfg.Follower = true
	e, err := engine.OpenFollower(cfg, engine.Deps{FS: disk.KillClone(), Log: log, Clock: clock.New(clock.Config{}), NoPreallocate: true})
	if err != nil {
		s.fail("open %s: %v", name, err)
		return
	}
	snap, err := e.Snapshot()
	if err != nil {
		s.t.Fatal(err)
	}
	_, err = recovery.VerifyFull(snap)
	at, aerr := e.Applied()
	if err := errors.Join(err, aerr, snap.Close(), e.Close()); err != nil {
		s.fail("verify %s: %v", name, err)
	}
	if on, ok := line[at.Pos.LSN]; ok && on.chain != at.Chain {
		s.fail("the state of %s stands at %s, off the line", name, at.Pos)
	}
}

// checkPlaces: whatever a client was told of stays part of the history, and each
// LSN is of one epoch.
func (s *sim) checkPlaces(line map[lsn.LSN]frameID, first lsn.LSN) {
	for _, p := range s.places {
		if p.at.LSN < first {
			continue
		}
		if on, ok := line[p.at.LSN]; !ok || on.at.Epoch != p.at.Epoch {
			s.fail("%s was answered at %s, and the line has %s there", p.what, p.at, on.at)
		}
	}
}

// checkSights: a read that asked for all up to a place has seen every write there
// that was answered.
func (s *sim) checkSights() {
	for _, x := range s.sights {
		for at, value := range s.writes[x.register] {
			if at <= x.at.LSN && at > x.version {
				s.fail("a read that asked for %s found %q of LSN %d in register %d, and %s was written at LSN %d", x.at, x.value, x.version, x.register, value, at)
			}
			if at == x.version && value != x.value {
				s.fail("a read found %q at LSN %d, where %s was written", x.value, at, value)
			}
		}
	}
}
