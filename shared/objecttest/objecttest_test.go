package objecttest

import (
	"path/filepath"
	"testing"

	"originchain/shared/object"
)

func TestMemory(t *testing.T) {
	Run(t, func(*testing.T) func() object.Store {
		m := object.NewMemory("test")
		return func() object.Store { return m }
	})
}

func TestFolder(t *testing.T) {
	Run(t, func(t *testing.T) func() object.Store {
		dir := filepath.Join(t.TempDir(), "not", "there yet")
		return func() object.Store { return object.NewFolder(dir) }
	})
}
