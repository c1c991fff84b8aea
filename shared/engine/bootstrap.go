package engine

import (
	"errors"
	"fmt"

	"originchain/shared/datadir"
	"originchain/shared/table"
)

// CopyState makes a checkpoint of the visible state in dir, which must not exist,
// by hard links, and returns where the copy stands as the copy itself says.
func (e *Engine) CopyState(dir string) (table.Applied, error) {
	if err := e.store.Checkpoint(dir); err != nil {
		return table.Applied{}, fmt.Errorf("checkpoint the state in %s: %w", dir, err)
	}
	s, err := table.Open(table.Options{FS: e.deps.FS, Dir: dir, ReadOnly: true, Log: e.deps.Log})
	if err != nil {
		return table.Applied{}, err
	}
	at, err := s.Applied()
	return at, errors.Join(err, s.Close())
}

// Purges is how many purges of its instance's archive the state was built behind.
func (e *Engine) Purges() (uint64, error) { return e.store.Purges(e.dir.Identity().InstanceID) }

// Dir is the open data directory.
func (e *Engine) Dir() *datadir.Dir { return e.dir }
