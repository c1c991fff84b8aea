package objecttest

import (
	"path/filepath"
	"testing"

	"originchain/shared/object"
)

func TestMemory(t *testing.T) {
	open := func(*testing.T) func() object.Store {
		m := object.NewMemory("test")
		return func() object.Store { return m }
	}
	Run(t, open)
	RunDirectories(t, open)
}

func TestFolder(t *testing.T) {
	open := func(t *testing.T) func() object.Store {
		dir := filepath.Join(t.TempDir(), "not", "there yet")
		return func() object.Store { return object.NewFolder(dir) }
	}
	Run(t, open)
	RunDirectories(t, open)
}
