package wal

import (
	"errors"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	// zeroStep is how much of the next segment is zeroed and synced at once, in bytes.
	zeroStep = 1 << 20
	// zeroAhead is how much is zeroed before anything is appended, in bytes. A
	// whole segment at once would have an idle log that rolls by age write
	// 64 MiB of zeros a minute.
	zeroAhead = 4 << 20
)

// preallocator zeroes the next segment ahead: an fdatasync over written blocks
// needs no metadata, which halves it. fallocate is refused: blocks it promises
// become written ones at the first append, and that is metadata again.
//
// The first zeroAhead bytes are zeroed while no commit fsync waits. From then on
// each zeroStep bytes appended entitle it to one step, waiting commit or not:
// so it is as far as the open segment is, even in a saturated log.
type preallocator struct {
	fs     vfs.FS
	path   string
	limit  int64
	failed func(error)
	done   chan struct{}

	mu   sync.Mutex
	cond *sync.Cond
	// wanted says that a segment is to be prepared; file is it, once begun.
	wanted bool
	file   file
	zeroed int64
	// stepping is true while the goroutine works on file without mu.
	stepping   bool
	committing bool
	// owed counts bytes appended that no step has answered yet.
	owed   int64
	closed bool
	err    error
}

// startPreallocator starts the goroutine; close joins it. failed is told the
// first error, after which no step is tried.
func startPreallocator(fs vfs.FS, path string, limit int64, failed func(error)) *preallocator {
	p := &preallocator{fs: fs, path: path, limit: limit, failed: failed, done: make(chan struct{})}
	p.cond = sync.NewCond(&p.mu)
	go p.run()
	return p
}

func (p *preallocator) run() {
	defer close(p.done)
	zeros := make([]byte, zeroStep)
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		for !p.closed && !p.due() {
			p.cond.Wait()
		}
		if p.closed {
			return
		}
		if p.owed >= zeroStep {
			p.owed -= zeroStep
		}
		p.stepping = true
		f, at := p.file, p.zeroed
		n := min(zeroStep, p.limit-at)
		p.mu.Unlock()
		f, err := p.step(f, at, zeros[:n])
		p.mu.Lock()
		p.stepping = false
		p.file, p.zeroed = f, at+n
		p.cond.Broadcast()
		if err != nil {
			p.wanted, p.err = false, err
			p.failed(err)
		}
	}
}

// due reports whether a step may begin. The caller holds mu.
func (p *preallocator) due() bool {
	if !p.wanted || p.zeroed >= p.limit {
		return false
	}
	return p.owed >= zeroStep || (p.zeroed < zeroAhead && !p.committing)
}

// step zeroes and syncs one stretch, creating the file before the first. The
// sync belongs to it: zeros left dirty would be flushed by the fsync that
// makes the header durable, all at once, in the commit path.
func (p *preallocator) step(f file, at int64, zeros []byte) (file, error) {
	if f == nil {
		var err error
		if f, err = openFile(p.fs, p.path); err != nil {
			return nil, err
		}
	}
	if _, err := f.WriteAt(zeros, at); err != nil {
		return f, err
	}
	return f, f.SyncData()
}

// start asks for a next segment; after a failure nothing more is prepared.
func (p *preallocator) start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted, p.owed = p.err == nil, 0
	p.cond.Broadcast()
}

// take hands over the file as far as it is zeroed, or nil if none was begun,
// and stops until start. It waits for a step in progress. A file whose write
// or fsync failed is not handed over: its error is.
func (p *preallocator) take() (file, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted = false
	for p.stepping {
		p.cond.Wait()
	}
	if p.err != nil {
		return nil, p.err
	}
	f := p.file
	p.file, p.zeroed = nil, 0
	return f, nil
}

// commit tells that a commit fsync begins or has ended.
func (p *preallocator) commit(begins bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.committing = begins
	if p.due() {
		p.cond.Broadcast()
	}
}

// appended tells that n bytes were appended.
func (p *preallocator) appended(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.owed += n
	if p.due() {
		p.cond.Broadcast()
	}
}

// close joins the goroutine and removes the unfinished file.
func (p *preallocator) close() error {
	p.mu.Lock()
	p.closed = true
	p.cond.Broadcast()
	p.mu.Unlock()
	<-p.done
	if p.file == nil {
		return nil
	}
	return errors.Join(p.file.Close(), p.fs.Remove(p.path))
}
