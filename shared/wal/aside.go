package wal

import (
	"errors"
	"fmt"

	"originchain/shared/frame"
	"originchain/shared/lsn"
)

// SetAside moves every frame above LSN fork out of the log into divergent files
// in dir, one per segment, and returns the files that hold what this log had
// above the fork. It is for a node that comes back with a history its successor
// never had: no frame is dropped. A fork one below FirstLSN empties the log.
//
// The files are durable before the log is touched. Then the mark is lowered, the
// segments above the fork are removed, newest first, and the fork's is cut.
// That the directory above dir is durable is the caller's to see to. After a
// crash the log opens and ends at its old end, at the fork, or with a
// segment between; SetAside, called again, finishes and returns the same. So it
// does when called again after it was done.
//
// Nothing else may use the log meanwhile, readers included: Durable retreats. It
// must not have begun an epoch. ErrRemoved says that the log begins above the
// fork. An error before the first change of the log leaves it usable, a later
// one stops it for ever.
func (l *Log) SetAside(fork lsn.LSN, dir string) ([]Divergent, error) {
	l.removing.Lock()
	defer l.removing.Unlock()
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.writable(); err != nil {
		return nil, err
	}
	if err := l.sync(); err != nil {
		return nil, err
	}
	set, err := l.setAside(fork, dir)
	if err != nil {
		return nil, fmt.Errorf("set aside what is above LSN %d: %w", fork, err)
	}
	return set, nil
}

func (l *Log) setAside(fork lsn.LSN, dir string) ([]Divergent, error) {
	tail, first := l.Tail(), l.FirstLSN()
	switch {
	case l.epoch != 0:
		return nil, fmt.Errorf("the log is written in epoch %d: open it anew", l.epoch)
	case first == 0:
		return l.divergentFrom(dir, fork, nil)
	case fork > tail.Pos.LSN:
		return nil, fmt.Errorf("the log ends at LSN %d", tail.Pos.LSN)
	case fork+1 < first:
		return nil, fmt.Errorf("the log begins at %d: %w", first, ErrRemoved)
	case fork == tail.Pos.LSN:
		return l.divergentFrom(dir, fork, &tail.Chain)
	}
	s, _, _ := l.locate(fork + 1)
	a, at, err := l.rebuild(&s, fork)
	if err != nil {
		return nil, err
	}
	if err := l.keepAbove(at, dir); err != nil {
		return nil, err
	}
	if err := l.cutBack(a, at); err != nil {
		return nil, err
	}
	return l.divergentFrom(dir, fork, &at.Chain)
}

// keepAbove writes the divergent files of all frames above the fork, whose state
// is at.
func (l *Log) keepAbove(at Tail, dir string) error {
	fork := at.Pos.LSN
	if err := l.opts.FS.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create %s: %w", dir, err)
	}
	if err := syncDir(l.opts.FS, l.opts.FS.PathDir(dir)); err != nil {
		return err
	}
	for i := range l.segments {
		s := &l.segments[i]
		if s.last.Pos.LSN <= fork {
			continue
		}
		if s.header.First > fork {
			at = before(&s.header)
		}
		if err := l.keep(s, at, dir); err != nil {
			return err
		}
	}
	return nil
}

// cutBack takes everything above the fork off the log; a is the bookkeeping of
// the segment that holds the frame above it, up to the fork, and at the state there.
func (l *Log) cutBack(a *activeSegment, at Tail) error {
	inside := a.footer.Frames > 0
	kept := 0
	for kept < len(l.segments) && l.segments[kept].header.First <= at.Pos.LSN {
		kept++
	}
	var end Tail // of an empty log
	if inside {
		end = at
	} else if kept > 0 {
		end = l.segments[kept-1].last
	}
	if err := l.lowerMark(end.Pos.LSN); err != nil {
		return err
	}
	if err := l.closeActive(); err != nil {
		return err
	}
	for len(l.segments) > kept {
		if err := l.dropNewest(); err != nil {
			return err
		}
	}
	if inside {
		if err := l.reopen(a); err != nil {
			return err
		}
	}
	l.view.Lock()
	defer l.view.Unlock()
	l.tail, l.durable = end, end.Pos.LSN
	if kept > 0 {
		l.segments[kept-1].last = end
	}
	return nil
}

// closeActive closes the open segment without a seal.
func (l *Log) closeActive() error {
	a := l.active
	if a == nil {
		return nil
	}
	l.active = nil
	if err := a.file.Close(); err != nil {
		return l.fail("close "+a.path, err)
	}
	return nil
}

// lowerMark makes both slots of the mark say no more than at, durably: an older
// slot that still said more would make the shortened log look corrupt if the
// newer one were ever damaged.
func (l *Log) lowerMark(at lsn.LSN) error {
	v := l.mark.value
	v.durable, v.instance = at, l.opts.Instance
	for range 2 {
		if err := l.mark.write(v); err != nil {
			return l.fail("write "+markName, err)
		}
	}
	if err := l.mark.file.Sync(); err != nil {
		return l.fail("fsync "+markName, err)
	}
	return nil
}

// dropNewest removes the newest segment, durably.
func (l *Log) dropNewest() error {
	path := l.segments[len(l.segments)-1].path
	if err := l.opts.FS.Remove(path); err != nil {
		return l.fail("remove "+path, err)
	}
	if err := syncDir(l.opts.FS, l.opts.Dir); err != nil {
		return l.fail("remove "+path, err)
	}
	l.view.Lock()
	defer l.view.Unlock()
	l.segments = l.segments[:len(l.segments)-1]
	return nil
}

// keep writes the frames of s behind the state at into a divergent file, unless
// one holds them and more.
func (l *Log) keep(s *segment, at Tail, dir string) (err error) {
	header := s.header
	header.First, header.PrevChain, header.PrevDigest, header.PrevTimestamp = at.Pos.LSN+1, at.Chain, at.Digest, at.Timestamp
	path := l.opts.FS.PathJoin(dir, divergentName(header.Epoch, header.First))
	if kept, err := l.keptAlready(path, &header, s); err != nil {
		return err
	} else if kept {
		return errors.Join(l.syncFile(path), syncDir(l.opts.FS, dir))
	}
	src, err := l.opts.FS.Open(s.path)
	if err != nil {
		return fmt.Errorf("open %s: %w", s.path, err)
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	dec, err := l.decoder()
	if err != nil {
		return err
	}
	dst, err := createAside(l.opts.FS, path, header)
	if err != nil {
		return err
	}
	sc := newScanner(src, s.path, s.header, dec, s.end)
	if err := dst.fill(sc, at.Pos.LSN, s.last.Pos.LSN); err != nil {
		return errors.Join(err, dst.out.Close())
	}
	return dst.publish(l.opts.FS, dir)
}

// fill copies the frames above LSN from, up to LSN last.
func (w *asideFile) fill(sc *scanner, from, last lsn.LSN) error {
	var f frame.Frame
	for sc.prev.Pos.LSN < last {
		if err := sc.next(&f); err != nil {
			return sc.explain(err)
		}
		if f.LSN <= from {
			continue
		}
		if err := w.add(&f, sc.raw(f.Stored)); err != nil {
			return err
		}
	}
	return nil
}
