package pitr

import (
	"context"
	"io"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sirupsen/logrus"

	"originchain/shared/clock"
	"originchain/shared/engine"
	"originchain/shared/frame"
	"originchain/shared/lsn"
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

func engineConfig(dir string, shared bool) engine.Config {
	return engine.Config{DataDir: dir, Shared: shared, MemtableBytes: 64 << 10, CacheBytes: 1 << 20}
}

func engineDeps(fs vfs.FS) engine.Deps {
	return engine.Deps{FS: fs, Log: quiet(), Clock: clock.New(clock.Config{}), NoPreallocate: true}
}

// openAt opens a directory as a writer; shared: with its instance's archive at hand.
func openAt(fs vfs.FS, dir string, shared bool) (*engine.Engine, error) {
	return engine.Open(context.Background(), engineConfig(dir, shared), engineDeps(fs))
}

func openEngine(t testing.TB, disk *simdisk.Disk, shared bool) *engine.Engine {
	t.Helper()
	e, err := openAt(disk, "/restored", shared)
	must(t, err)
	return e
}

func pairHash(key, value string) lsn.Digest { return frame.PairHash([]byte(key), []byte(value)) }
