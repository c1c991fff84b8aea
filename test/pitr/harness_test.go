package pitr

import (
	"context"
	"io"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sirupsen/logrus"

	"originchain/shared/clock"
	"originchain/shared/engine"
	"originchain/shared/object"
	"originchain/shared/restore"
	"originchain/shared/simdisk"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func quiet() logrus.FieldLogger {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return l
}

// options are those of a restore to disk.
func options(store object.Store, fs vfs.FS, req restore.Request) restore.Options {
	return restore.Options{Store: store, Request: req, FS: fs, DataDir: "/restored", NodeID: "node-r", CacheBytes: 1 << 20, MemtableBytes: 256 << 10}
}

func openEngineWith(disk *simdisk.Disk, shared bool) (*engine.Engine, error) {
	return engine.Open(context.Background(), engine.Config{DataDir: "/restored", Shared: shared, MemtableBytes: 64 << 10, CacheBytes: 1 << 20},
		engine.Deps{FS: disk, Log: quiet(), Clock: clock.New(clock.Config{}), NoPreallocate: true})
}

func openEngine(t testing.TB, disk *simdisk.Disk, shared bool) *engine.Engine {
	t.Helper()
	e, err := openEngineWith(disk, shared)
	must(t, err)
	return e
}
