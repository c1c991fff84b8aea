// Package verification checks a whole data directory while no server has it
// open, and changes nothing in it: every segment of the log, the state against
// the log by a scan of every key, and every row, index entry, counter and
// reference in the state against each other.
package verification

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sirupsen/logrus"

	"originchain/shared/datadir"
	"originchain/shared/lsn"
	recovery "originchain/shared/recover"
	"originchain/shared/table"
)

// Options say what is verified.
type Options struct {
	FS vfs.FS
	// DataDir is the directory that a server was given as --data-dir.
	DataDir string
	// Begin is told of each phase: its name, what it counts and how many there
	// may be, which for the state is what its counters say. It returns what is
	// told of progress, and what of the phase's end. May be nil.
	Begin func(name, unit string, total int64) (advance func(n int64), end func())
}

// maxListedFaults is how many faults a report lists; the rest are counted.
const maxListedFaults = 100

// The checks, as Fault.Check names them.
const (
	CheckLog         = "log"
	CheckState       = "state"
	CheckDigest      = "digest"
	CheckRecords     = "records"
	CheckRows        = "rows"
	CheckIndexes     = "indexes"
	CheckCounters    = "counters"
	CheckForeignKeys = "foreign_keys"
)

// Fault is one thing that is not as it must be.
type Fault struct {
	Check  string `json:"check"`
	Tenant string `json:"tenant,omitempty"`
	Table  string `json:"table,omitempty"`
	Index  string `json:"index,omitempty"`
	// Key is the key in hex, where the fault is of one.
	Key     string `json:"key,omitempty"`
	Problem string `json:"problem"`
	// Do is what the operator does now.
	Do string `json:"do"`
}

// Report is what a verification found.
//
// OK says that everything was looked at and is as it must be. Complete says that
// the state has all frames of the log: what those that it lacks would make of it
// cannot be checked before the next start has applied them.
type Report struct {
	OK       bool   `json:"ok"`
	Complete bool   `json:"complete"`
	DataDir  string `json:"data_dir"`
	Instance string `json:"instance"`
	Node     string `json:"node"`
	Log      Log    `json:"log"`
	State    State  `json:"state"`
	// Faults are the first ones found, FoundFaults is how many there are.
	Faults      []Fault `json:"faults"`
	FoundFaults uint64  `json:"faults_found"`
}

// Log is what was read of the log.
type Log struct {
	Segments   int       `json:"segments"`
	Frames     uint64    `json:"frames"`
	Operations uint64    `json:"operations"`
	Bytes      int64     `json:"bytes"`
	FirstLSN   lsn.LSN   `json:"first_lsn"`
	LastLSN    lsn.LSN   `json:"last_lsn"`
	LastEpoch  lsn.Epoch `json:"last_epoch"`
	Digest     string    `json:"digest"`
	// TornTail says where the newest segment ends in bytes that are no frame and
	// that nobody was told about: the next start cuts them.
	TornTail string `json:"torn_tail,omitempty"`
}

// State is what was read of the state.
type State struct {
	LSN    lsn.LSN   `json:"lsn"`
	Epoch  lsn.Epoch `json:"epoch"`
	Digest string    `json:"digest"`
	// Behind is how many frames of the log the next start applies.
	Behind       uint64 `json:"behind"`
	Keys         uint64 `json:"keys"`
	Tenants      uint64 `json:"tenants"`
	Tables       uint64 `json:"tables"`
	Rows         uint64 `json:"rows"`
	IndexEntries uint64 `json:"index_entries"`
	References   uint64 `json:"references"`
}

// Run verifies the directory. What is wrong with its contents is in the report;
// an error is what kept it from being verified, and the report then holds what
// was found before.
func Run(ctx context.Context, o Options) (_ *Report, err error) {
	if o.Begin == nil {
		o.Begin = func(string, string, int64) (func(int64), func()) { return func(int64) {}, func() {} }
	}
	r := &run{ctx: ctx, opts: o, report: &Report{DataDir: o.DataDir, Faults: []Fault{}}}
	dir, err := datadir.OpenExisting(o.FS, o.DataDir)
	if err != nil {
		return r.report, err
	}
	defer func() {
		if closeErr := dir.Close(); closeErr != nil { // it was not left alone meanwhile
			r.report.OK, r.report.Complete = false, false
			err = errors.Join(err, closeErr)
		}
	}()
	r.dir = dir
	r.report.Instance, r.report.Node = dir.Identity().InstanceID.String(), dir.Identity().NodeID
	if r.base, err = dir.Restored(); err != nil {
		return r.report, err
	}
	err = r.verify()
	r.advise()
	if err != nil {
		return r.report, err
	}
	r.report.Complete = r.joined && r.report.State.Behind == 0
	r.report.OK = r.report.Complete && r.report.FoundFaults == 0
	return r.report, nil
}

// run is one verification.
type run struct {
	ctx    context.Context
	opts   Options
	dir    *datadir.Dir
	report *Report
	// at is where the state says it stands, and of what it is a function.
	at table.Applied
	// history is what the log says of that frame; known is false where it does
	// not say, because the frame is not in it.
	history struct {
		chain  lsn.Chain
		digest lsn.Digest
		known  bool
	}
	// base is what a restored copy began with; nil for any other directory.
	base *datadir.Restored
	// joined says that the state was held against the log.
	joined bool
	// proved says that the state is what the log makes of it, so that what is
	// wrong with it is in the log as well.
	proved bool
	// archived says that it is no directory that is verified: there is none to rebuild.
	archived bool
}

// verify opens the state first: where it stands says which frame of the log to
// keep in mind.
func (r *run) verify() error {
	store, err := r.openState()
	if err != nil {
		r.fault(Fault{Check: CheckState, Problem: err.Error(), Do: doRebuild})
	}
	if store == nil {
		sound, logErr := r.verifyLog()
		if logErr == nil && err == nil && sound {
			r.joinLog()
		}
		return logErr
	}
	return errors.Join(r.verifyStore(store), store.Close())
}

// openState opens the state, for reading alone; a server that was killed before
// it made one has none, which is the empty state.
func (r *run) openState() (*table.Store, error) {
	names, err := r.opts.FS.List(r.dir.State())
	if err != nil || len(names) == 0 {
		return nil, err
	}
	quiet := logrus.New()
	quiet.SetOutput(io.Discard) // what Pebble has to say comes back as errors
	return table.Open(table.Options{FS: r.opts.FS, Dir: r.dir.State(), ReadOnly: true, Log: quiet})
}

func (r *run) verifyStore(store *table.Store) (err error) {
	snap, err := store.Snapshot()
	if err != nil {
		r.fault(Fault{Check: CheckState, Problem: err.Error(), Do: doRebuild})
		_, err := r.verifyLog()
		return err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	r.at = snap.Applied()
	s := &r.report.State
	s.LSN, s.Epoch, s.Digest = r.at.Pos.LSN, r.at.Pos.Epoch, r.at.Digest.String()
	sound, err := r.verifyLog()
	if err != nil {
		return err
	}
	if sound {
		r.joinLog()
	}
	c := newContents(r, snap)
	if whole, err := c.scan(sound); err != nil || !whole {
		return err
	}
	return c.compare()
}

// joinLog holds the state's position against the log.
func (r *run) joinLog() {
	l := &r.report.Log
	first := max(l.FirstLSN, 1)
	if r.at.Pos.LSN == l.LastLSN && r.history.known {
		first = min(first, l.LastLSN) // the chain is known, be it of a frame that is in no file here
	}
	err := recovery.Join(r.at, first, l.LastLSN, func(lsn.LSN) (lsn.Chain, error) { return r.history.chain, nil })
	if err == nil && r.history.known && r.history.digest != r.at.Digest {
		err = &recovery.MismatchError{LSN: r.at.Pos.LSN, What: "digest that the state claims", Want: r.history.digest.String(), Got: r.at.Digest.String()}
	}
	if err != nil {
		r.fault(Fault{Check: CheckDigest, Problem: err.Error(), Do: doRebuild})
		return
	}
	r.joined = true
	r.report.State.Behind = uint64(l.LastLSN - r.at.Pos.LSN)
}

// fault adds one to the report.
func (r *run) fault(f Fault) {
	r.report.FoundFaults++
	if len(r.report.Faults) < maxListedFaults {
		r.report.Faults = append(r.report.Faults, f)
	}
}

// What an operator does about a fault.
const (
	doRestore = "this directory can no longer be trusted: keep it, and restore from a copy or a follower of this instance"
	doRebuild = "with the server stopped, move the directory state away, copy the newest directory in checkpoints to state, and start the server, which replays the log from there; then verify again"
	doReindex = "if CREATE INDEX made the index, drop it and create it again; "
	doRepoint = "insert the row that is pointed to, or change or delete this one; "
	doOther   = "what the archive leads to is not what its writer had: restore to another point, or from another checkpoint by an earlier target, and report this"
	doReport  = "the log itself leads to this, so a rebuilt state will have it too: keep the directory and report this with the version of the server"
)

// advise completes the faults of the state's contents: what helps depends on
// whether the log says the same, which is known at the end.
func (r *run) advise() {
	for i := range r.report.Faults {
		switch f := &r.report.Faults[i]; {
		case r.archived && !r.proved:
			f.Do = doOther
		case f.Do != "":
		case !r.proved:
			f.Do = doRebuild
		case f.Check == CheckIndexes:
			f.Do = doReindex + doReport
		case f.Check == CheckForeignKeys:
			f.Do = doRepoint + doReport
		default:
			f.Do = doReport
		}
	}
}

// ended tells the end that was asked for from a fault.
func (r *run) ended() error {
	if err := r.ctx.Err(); err != nil {
		return fmt.Errorf("the verification was stopped before its end: %w", err)
	}
	return nil
}
