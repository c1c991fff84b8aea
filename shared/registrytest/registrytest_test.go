package registrytest_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/registry"
	"originchain/shared/registrytest"
)

func TestMemory(t *testing.T) {
	registrytest.Run(t, func(*testing.T) func() registry.Store {
		m := registry.NewMemory()
		return func() registry.Store { return m }
	})
}

func TestFolder(t *testing.T) {
	registrytest.Run(t, func(t *testing.T) func() registry.Store {
		dir := t.TempDir() + "/registry"
		return func() registry.Store {
			f, err := registry.OpenFolder(vfs.Default, dir)
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
	})
}
