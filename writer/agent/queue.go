package agent

import (
	"context"
	"slices"
	"sync"

	"github.com/sirupsen/logrus"

	"originchain/shared/aws/cwmetrics"
)

// queue holds what waits to be put, oldest first, and no more than most: beyond it the
// oldest goes. Whoever puts never waits.
type queue struct {
	most  int
	ready chan struct{} // holds one token when there may be something

	mu   sync.Mutex
	data []cwmetrics.Datum
	// lent is how many at the front are being put; lost how many went since that was asked.
	lent, lost int
}

func newQueue(most int) *queue { return &queue{most: most, ready: make(chan struct{}, 1)} }

func (q *queue) put(data []cwmetrics.Datum) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.data = append(q.data, data...)
	if over := len(q.data) - q.most; over > 0 {
		q.data = slices.Delete(q.data, 0, over)
		// Of those that are being put, as many are in either way, or lost.
		q.lost += max(0, over-q.lent)
		q.lent = max(0, q.lent-over)
	}
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.ready <- struct{}{}:
	default: // one is there
	}
}

// wait returns the oldest, which stay until done says that they are in; ok is false when
// the context ends.
func (q *queue) wait(ctx context.Context) (data []cwmetrics.Datum, lost int, ok bool) {
	for {
		q.mu.Lock()
		q.lent = min(len(q.data), takeAtOnce)
		data, lost, q.lost = slices.Clone(q.data[:q.lent]), q.lost, 0
		q.mu.Unlock()
		if len(data) > 0 && ctx.Err() == nil {
			return data, lost, true
		}
		q.mu.Lock()
		q.lost += lost
		q.mu.Unlock()
		select {
		case <-q.ready:
		case <-ctx.Done():
			return nil, 0, false
		}
	}
}

// done takes away the first n of those that were lent, as far as they are there.
func (q *queue) done(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.data = slices.Delete(q.data, 0, min(n, q.lent))
	q.lent = 0
}

// said logs what changes, and nothing twice.
type said struct {
	log logrus.FieldLogger
	mu  sync.Mutex
	ill map[string]bool
}

func newSaid(log logrus.FieldLogger) *said { return &said{log: log, ill: map[string]bool{}} }

// say logs that something of a kind has begun to fail, or does so no more. Why it fails may
// change meanwhile, with every request's id: that is the same failure.
func (s *said) say(kind string, err error, ill, well string) {
	s.mu.Lock()
	before, known := s.ill[kind]
	s.ill[kind] = err != nil
	s.mu.Unlock()
	switch {
	case err != nil && !before:
		s.log.WithError(err).Error(ill)
	case err == nil && well != "" && (before || !known):
		s.log.Info(well)
	}
}
