package restore

import (
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
	// Line and LSN are the target that was found, Checkpoint where the replay begins.
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
	lock   io.Closer
	work   *work // nil where nothing was decided yet
}

// openStaging looks at the target, then takes the staging directory. A target that
// holds anything is refused before anything is written, unless it is what an earlier
// run with the same arguments has put there a moment before it was killed.
func openStaging(fs vfs.FS, target string, args arguments) (_ *staging, err error) {
	s := &staging{fs: fs, path: target + stagingSuffix, target: target}
	holds, err := contents(fs, target)
	if err != nil {
		return nil, err
	}
	if err := s.load(); err != nil {
		return nil, err
	}
	if s.work != nil && s.work.Arguments != args {
		return nil, &OtherRestoreError{Staging: s.path, What: s.work.Arguments.String()}
	}
	if holds != "" && !s.delivered() {
		return nil, &NotEmptyError{Path: target, Holds: holds}
	}
	if err := datadir.MakeDirs(fs, s.path); err != nil {
		return nil, err
	}
	if s.lock, err = fs.Lock(fs.PathJoin(s.path, lockFile)); err != nil {
		return nil, fmt.Errorf("%w: another restore works in %s, or it cannot be written: %w", datadir.ErrLocked, s.path, err)
	}
	return s, nil
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

// delivered reports that the rename was done and the rest was not.
func (s *staging) delivered() bool {
	if s.work == nil || s.work.Phase != finished {
		return false
	}
	_, err := s.fs.Stat(s.data())
	return errors.Is(err, iofs.ErrNotExist)
}

func (s *staging) data() string  { return s.fs.PathJoin(s.path, dataDir) }
func (s *staging) state() string { return datadir.StatePath(s.fs, s.data()) }

func (s *staging) load() (err error) {
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
	s.work = w
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
	f, err := s.fs.Create(path+".tmp", vfs.WriteCategoryUnspecified)
	if err != nil {
		return local(err)
	}
	if _, err := f.Write(b); err != nil {
		return errors.Join(local(err), f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(local(err), f.Close())
	}
	if err := f.Close(); err != nil {
		return local(err)
	}
	if err := s.fs.Rename(path+".tmp", path); err != nil {
		return local(err)
	}
	return local(datadir.SyncDir(s.fs, s.path))
}

// deliver puts the finished directory in its place.
func (s *staging) deliver() error {
	if s.delivered() {
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
	return local(datadir.SyncDir(s.fs, s.fs.PathDir(s.target)))
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
	return fmt.Sprintf("--archive %s %s", a.Archive, target)
}
