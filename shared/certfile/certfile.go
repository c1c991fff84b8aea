// Package certfile keeps what is made of a few small files current while a
// process runs: certificates are renewed under a server that goes on serving.
package certfile

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
)

// Poll is how often the files are looked at.
const Poll = time.Second

// Source is a set of files and what they make.
type Source[T any] struct {
	// Name is the file that log lines name, What what it makes: "TLS certificate".
	Name, What string
	// Read returns the contents of the files, always in the same order.
	Read func() ([][]byte, error)
	// Parse makes the value of the contents; an error is a set that must not be
	// used.
	Parse func(contents [][]byte) (T, error)
}

// Watched is the value of the newest good set of files. A new set that does not
// load is logged once, and the old value stays.
type Watched[T any] struct {
	source  Source[T]
	log     *logrus.Logger
	current atomic.Pointer[T]

	// looking is held by a look; the rest is the look's.
	looking sync.Mutex
	// read is what the files held when they could last be read, good or bad.
	read [][]byte
	// unreadable is why the last look could not read them, which was logged.
	unreadable string
}

// Load reads the files for the first time; here a fault is an error. It starts
// nothing: Run looks for changes.
func Load[T any](source Source[T], log *logrus.Logger) (*Watched[T], error) {
	contents, err := source.Read()
	if err != nil {
		return nil, err
	}
	value, err := source.Parse(contents)
	if err != nil {
		return nil, err
	}
	w := &Watched[T]{source: source, log: log, read: contents}
	w.current.Store(&value)
	return w, nil
}

// Current is the value to use now.
func (w *Watched[T]) Current() T { return *w.current.Load() }

// Run looks for changes every Poll and whenever hangup says so, until ctx ends.
// It compares contents: a time stamp can stay the same over a quick second
// write, and the files are small.
func (w *Watched[T]) Run(ctx context.Context, hangup <-chan struct{}) {
	ticker := time.NewTicker(Poll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-hangup:
		}
		w.Look()
	}
}

// Look takes up the files if they have changed and are good, and reports
// whether it did. Run calls it.
func (w *Watched[T]) Look() bool {
	w.looking.Lock()
	defer w.looking.Unlock()
	contents, err := w.source.Read()
	if err != nil {
		if w.unreadable != err.Error() {
			w.unreadable = err.Error()
			w.notUsable(err)
		}
		return false
	}
	w.unreadable = ""
	if slices.EqualFunc(contents, w.read, bytes.Equal) {
		return false
	}
	w.read = contents
	value, err := w.source.Parse(contents)
	if err != nil {
		w.notUsable(err)
		return false
	}
	w.current.Store(&value)
	w.log.WithField("file", w.source.Name).Info("new " + w.source.What + " in use")
	return true
}

func (w *Watched[T]) notUsable(err error) {
	w.log.WithField("file", w.source.Name).WithError(err).Error("the new " + w.source.What + " is not usable, the old one stays in use")
}
