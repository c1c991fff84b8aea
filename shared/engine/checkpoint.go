package engine

import (
	"fmt"
	"sort"
	"strconv"
	"strings"

	"originchain/shared/durable"
	"originchain/shared/lsn"
)

// keptCheckpoints: a node rewinds to a local checkpoint, since Pebble cannot go
// back; the older one is there in case the newer lies above the fork.
const keptCheckpoints = 2

const checkpointTemp = ".tmp"

// maintain makes a local checkpoint at each roll and lets go of log segments
// that nothing needs any more. It runs beside the pipeline and never in it.
func (e *Engine) maintain() {
	for range e.rolled {
		e.afterRoll()
	}
}

// maintainUntil is maintain for a follower, whose log may still grow when the
// engine's run has ended: who copies is another's goroutine.
func (e *Engine) maintainUntil(stop <-chan struct{}) {
	for {
		select {
		case <-e.rolled:
			e.afterRoll()
		case <-stop:
			return
		}
	}
}

func (e *Engine) afterRoll() {
	if e.failure.Load() != nil {
		return
	}
	if err := e.checkpoint(); err != nil {
		e.deps.Log.WithError(err).Error("local checkpoint failed; log segments are kept until one succeeds")
	}
}

// checkpoint copies the state by hard links, under the LSN it stands at or
// above, and then removes what is older than needed. A segment goes only when
// the state on disk and both checkpoints are past it.
func (e *Engine) checkpoint() error {
	at := lsn.LSN(e.visible.Load())
	fs, dir := e.deps.FS, e.dir.Checkpoints()
	path := fs.PathJoin(dir, checkpointName(at))
	if _, err := fs.Stat(path); err == nil {
		return nil // nothing was committed since the last one
	}
	if err := e.clearUnfinished(); err != nil {
		return err
	}
	if err := e.store.Checkpoint(path + checkpointTemp); err != nil {
		return fmt.Errorf("checkpoint at LSN %d: %w", at, err)
	}
	if err := fs.Rename(path+checkpointTemp, path); err != nil {
		return fmt.Errorf("checkpoint at LSN %d: %w", at, err)
	}
	if err := durable.SyncDir(fs, dir); err != nil {
		return err
	}
	return e.trim()
}

// clearUnfinished removes what a crash cut short, of a checkpoint that was made
// or one that was removed: its links hold tables that the state has let go.
func (e *Engine) clearUnfinished() error {
	fs, dir := e.deps.FS, e.dir.Checkpoints()
	names, err := fs.List(dir)
	if err != nil {
		return fmt.Errorf("list checkpoints: %w", err)
	}
	for _, n := range names {
		if !strings.HasSuffix(n, checkpointTemp) {
			continue
		}
		if err := fs.RemoveAll(fs.PathJoin(dir, n)); err != nil {
			return fmt.Errorf("clear an unfinished checkpoint: %w", err)
		}
	}
	return nil
}

// trim removes the checkpoints that are too many, then the log that only they
// needed.
func (e *Engine) trim() error {
	kept, err := e.checkpoints()
	if err != nil || len(kept) < keptCheckpoints {
		return err
	}
	for ; len(kept) > keptCheckpoints; kept = kept[1:] {
		if err := e.removeCheckpoint(kept[0]); err != nil {
			return fmt.Errorf("remove the checkpoint at LSN %d: %w", kept[0], err)
		}
	}
	needed := kept[0] + 1
	if e.retainFrom != nil {
		needed = min(needed, e.retainFrom())
	}
	return e.log.RemoveBefore(needed)
}

// removeCheckpoint takes the name away first, durably: a checkpoint that is half
// there after a crash would be taken for one to rewind to.
func (e *Engine) removeCheckpoint(at lsn.LSN) error {
	fs, dir := e.deps.FS, e.dir.Checkpoints()
	path := fs.PathJoin(dir, checkpointName(at))
	if err := fs.Rename(path, path+checkpointTemp); err != nil {
		return err
	}
	if err := durable.SyncDir(fs, dir); err != nil {
		return err
	}
	return fs.RemoveAll(path + checkpointTemp)
}

func checkpointName(at lsn.LSN) string { return fmt.Sprintf("%016x", uint64(at)) }

// checkpoints lists the local checkpoints, oldest first.
func (e *Engine) checkpoints() ([]lsn.LSN, error) {
	names, err := e.deps.FS.List(e.dir.Checkpoints())
	if err != nil {
		return nil, fmt.Errorf("list checkpoints: %w", err)
	}
	var out []lsn.LSN
	for _, n := range names {
		if strings.HasSuffix(n, checkpointTemp) {
			continue
		}
		v, err := strconv.ParseUint(n, 16, 64)
		if err != nil {
			return nil, fmt.Errorf("%q in the checkpoint directory is not a checkpoint; move it away", n)
		}
		out = append(out, lsn.LSN(v))
	}
	sort.Slice(out, func(i, j int) bool { return out[i] < out[j] })
	return out, nil
}
