package restore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/oklog/ulid/v2"

	"originchain/shared/archive"
	"originchain/shared/datadir"
	"originchain/shared/durable"
	"originchain/shared/lsn"
)

// stagingSuffix makes the name of the directory that a restore works in: beside the
// data directory, on the same file system.
const stagingSuffix = ".restoring"

// Names in the staging directory.
const (
	workFile = "restore.json"
	lockFile = "LOCK"
	dataDir  = "data"
)

const (
	workFormat   = 1
	maxWorkBytes = 1 << 20
)

// phase is how far a restore is.
type phase string

const (
	// fetching: the directory of the state holds files of the checkpoint alone.
	fetching phase = "fetching"
	// replaying: all of them were there, and the state has been opened.
	replaying phase = "replaying"
	// finished: what is in data is whole and verified.
	finished phase = "finished"
)

// work is what a restore has decided, so that another run goes on with it.
type work struct {
	Format    int       `json:"format"`
	Arguments arguments `json:"arguments"`
	Phase     phase     `json:"phase"`
	// Instance is whose archive it was, Line and LSN are the target that was found, Checkpoint where the replay begins.
	Instance   ulid.ULID   `json:"instance_id,omitzero"`
	Line       lsn.Epoch   `json:"line_epoch"`
	LSN        lsn.LSN     `json:"lsn"`
	Checkpoint *checkpoint `json:"checkpoint"`
	Result     *Result     `json:"result"`
	// Purges is how many the archive had had: what was fetched then may hold what a later
	// one has removed.
	Purges int `json:"purges,omitempty"`
	// Recorded is the digest that the target frame carries, where purges have left a
	// state of another one: with it a run knows whether the counters were settled.
	Recorded *lsn.Digest `json:"recorded_digest,omitempty"`
}

type checkpoint struct {
	LSN   lsn.LSN   `json:"lsn"`
	Epoch lsn.Epoch `json:"epoch"`
}

func checkpointOf(c *archive.Checkpoint) *checkpoint {
	if c == nil {
		return nil
	}
	return &checkpoint{c.LSN, c.Epoch}
}

// arguments are what must be the same for a run to go on with what is there. To accept
// a wrong digest is a decision of the end, which is taken when it was met.
type arguments struct {
	Archive  string    `json:"archive"`
	Instance ulid.ULID `json:"instance_id"`
	Epoch    lsn.Epoch `json:"epoch"`
	Time     time.Time `json:"target,omitzero"`
	LSN      lsn.LSN   `json:"target_lsn"`
	Latest   bool      `json:"latest"`
	Clock    Clock     `json:"clock"`
	Node     string    `json:"node_id"`
	Pause    bool      `json:"pause_at_target"`
}

func (o *Options) arguments() arguments {
	r := &o.Request
	return arguments{
		Archive: o.Store.String(), Instance: r.Instance, Epoch: r.Epoch, Time: r.Time.UTC(), LSN: r.LSN, Latest: r.Latest, Clock: r.Clock,
		Node: o.NodeID, Pause: o.Pause,
	}
}

// staging is the directory that a restore works in, locked.
type staging struct {
	fs   vfs.FS
	path string
	// target is the data directory to be.
	target string
	args   arguments
	lock   io.Closer
	work   *work // nil where nothing was decided yet
	raw    []byte
	// delivered is the copy that an earlier run has put in place; nil if it has not.
	delivered *datadir.Restored
}

// open takes the staging directory that was looked at, and looks again: what
// another run has decided in between is not overlooked.
func (s *staging) open() (err error) {
	if err := durable.MakeDirs(s.fs, s.path); err != nil {
		return err
	}
	if s.lock, err = s.fs.Lock(s.fs.PathJoin(s.path, lockFile)); err != nil {
		return fmt.Errorf("%w: another restore works in %s, or it cannot be written: %w", datadir.ErrLocked, s.path, err)
	}
	seen := s.raw
	if err = s.look(); err == nil && !bytes.Equal(seen, s.raw) {
		err = fmt.Errorf("%s has changed meanwhile, another restore was at work in it: run again", s.path)
	}
	if err != nil {
		return errors.Join(err, s.lock.Close())
	}
	return nil
}

// look reads what was decided, and refuses a target that holds anything, unless it is
// what an earlier run with the same arguments has put there a moment before it was
// killed. It changes nothing.
func (s *staging) look() error {
	holds, err := contents(s.fs, s.target)
	if err != nil {
		return err
	}
	if err := s.load(); err != nil {
		return err
	}
	if s.work != nil && s.work.Arguments != s.args {
		return &OtherRestoreError{Staging: s.path, What: s.work.Arguments.String()}
	}
	delivered, err := s.isDelivered()
	switch {
	case err != nil:
		return err
	case delivered && holds == "":
		s.work = nil // it was, and somebody has removed it since: all begins anew
	case holds != "" && !delivered:
		return &NotEmptyError{Path: s.target, Holds: holds}
	case delivered:
		return s.holdDelivered(holds)
	}
	return nil
}

// contents names something that a directory holds; "" for an empty one and for none.
func contents(fs vfs.FS, path string) (string, error) {
	names, err := fs.List(path)
	switch {
	case errors.Is(err, iofs.ErrNotExist):
		return "", nil
	case errors.Is(err, syscall.ENOTDIR):
		return "", &NotEmptyError{Path: path, Holds: "a file of that name"}
	case err != nil:
		return "", fmt.Errorf("read %s: %w", path, err)
	case len(names) == 0:
		return "", nil
	}
	return names[0], nil
}

// isDelivered reports that the rename was done and the rest was not.
func (s *staging) isDelivered() (bool, error) {
	if s.work == nil || s.work.Phase != finished {
		return false, nil
	}
	_, err := s.fs.Stat(s.data())
	if isMissing(err) {
		return true, nil
	} else if err != nil {
		return false, local(err)
	}
	return false, nil
}

// holdDelivered holds what has the name of the target against what was put there: an
// earlier run's word is not taken for another directory.
func (s *staging) holdDelivered(holds string) error {
	r, err := datadir.RestoredIn(s.fs, s.target)
	if err != nil {
		return err
	}
	res := s.work.Result
	if r == nil || res == nil || r.Instance != res.Instance || r.Base.LSN != res.LSN || r.Base.Epoch != res.Epoch || r.Base.Digest != res.Digest {
		return &NotEmptyError{Path: s.target, Holds: holds}
	}
	s.delivered = r
	return nil
}

func (s *staging) data() string  { return s.fs.PathJoin(s.path, dataDir) }
func (s *staging) state() string { return datadir.StatePath(s.fs, s.data()) }

func (s *staging) load() (err error) {
	s.work, s.raw, s.delivered = nil, nil, nil
	path := s.fs.PathJoin(s.path, workFile)
	f, err := s.fs.Open(path)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b, err := io.ReadAll(io.LimitReader(f, maxWorkBytes))
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	w := &work{}
	if err := json.Unmarshal(b, w); err != nil || w.Format != workFormat {
		return fmt.Errorf("%s is not what this version writes; remove %s and restore anew", path, s.path)
	}
	s.work, s.raw = w, b
	return nil
}

// save makes what was decided durable.
func (s *staging) save() error {
	s.work.Format = workFormat
	b, err := json.Marshal(s.work)
	if err != nil {
		return err
	}
	path := s.fs.PathJoin(s.path, workFile)
	return local(durable.Replace(durable.On(s.fs), path, path+".tmp", b))
}

// deliver puts the finished directory in its place.
func (s *staging) deliver() error {
	if s.delivered != nil {
		return nil
	}
	if _, err := s.fs.Stat(s.target); err == nil {
		// Empty, as it was found; one that was filled meanwhile is not removed.
		if err := s.fs.Remove(s.target); err != nil {
			return fmt.Errorf("put the restored directory in the place of %s: %w; it is whole, in %s: if the target is a mount point name a directory inside of it, and move the finished one there", s.target, err, s.data())
		}
	}
	if err := s.fs.Rename(s.data(), s.target); err != nil {
		return local(err)
	}
	return local(durable.SyncDir(s.fs, s.fs.PathDir(s.target)))
}

// remove lets go of the staging directory: what was decided goes last.
func (s *staging) remove() error {
	names, err := s.fs.List(s.path)
	if err != nil {
		return local(err)
	}
	for _, n := range names {
		if n == workFile {
			continue
		}
		if err := s.fs.RemoveAll(s.fs.PathJoin(s.path, n)); err != nil {
			return local(err)
		}
	}
	return local(s.fs.RemoveAll(s.path))
}

func (a arguments) String() string {
	target := "--latest"
	switch {
	case a.LSN > 0:
		target = fmt.Sprintf("--target-lsn %d", a.LSN)
	case !a.Time.IsZero():
		target = "--target " + a.Time.Format(time.RFC3339Nano)
	}
	if a.Epoch > 0 {
		target += fmt.Sprintf(" --epoch %d", a.Epoch)
	}
	if a.Clock != Unset {
		target += " --clock " + string(a.Clock)
	}
	if !a.Instance.IsZero() {
		target += " --instance-id " + a.Instance.String()
	}
	if a.Node != "" {
		target += " --node-id " + a.Node
	}
	if a.Pause {
		target += " --pause-at-target"
	}
	return fmt.Sprintf("--archive %s %s", a.Archive, target)
}
