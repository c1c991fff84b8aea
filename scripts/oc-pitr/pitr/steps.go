package pitr

import (
	"sync"

	"originchain/shared/progress"
)

// steps hands progress on in steps: once a key would cost more than the key. Several
// goroutines may advance it.
type steps struct {
	mu   sync.Mutex
	task *progress.Task
	held int64
	step int64
}

func newSteps(t *progress.Task, total int64) *steps {
	return &steps{task: t, step: total / progressSteps}
}

func (s *steps) add(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held += n; s.held > s.step {
		s.task.Add(s.held)
		s.held = 0
	}
}

func (s *steps) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held > 0 {
		s.task.Add(s.held)
		s.held = 0
	}
	s.task.Done()
}
