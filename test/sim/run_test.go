package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/oklog/ulid/v2"
	"github.com/sirupsen/logrus"

	"originchain/shared/clock"
	"originchain/shared/engine"
	"originchain/shared/table"
)

var (
	tenant   = ulid.MustParse("01JADE0000000000000000000A")
	instance = ulid.MustParse("01JADE00000000000000000001")
)

// Tiny, so that a few hundred commits roll, flush, compact, checkpoint and trim.
const (
	segmentBytes  = 24 << 10
	memtableBytes = 12 << 10
	cacheBytes    = 256 << 10
	dataDir       = "/node/data"
)

// run is one opened engine that serves.
type run struct {
	*engine.Engine
	stop context.CancelFunc
	done chan error
}

func config() engine.Config {
	return engine.Config{
		DataDir: dataDir, InstanceID: instance.String(), NodeID: "node-sim",
		SegmentBytes: segmentBytes, MemtableBytes: memtableBytes, CacheBytes: cacheBytes,
	}
}

// seeded is a source of bytes for the engine's salts.
type seeded struct{ *rand.ChaCha8 }

func newSeeded(seed uint64) io.Reader {
	var s [32]byte
	for i := range 8 {
		s[i] = byte(seed >> (8 * i))
	}
	return seeded{rand.NewChaCha8(s)}
}

func deps(fs vfs.FS, seed uint64) engine.Deps {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return engine.Deps{
		FS: fs, Log: log, Clock: clock.New(clock.Config{}), Rand: newSeeded(seed),
		NoPreallocate: seed%2 == 0,
	}
}

// open opens the data directory and serves.
func open(fs vfs.FS, seed uint64) (*run, error) {
	e, err := engine.Open(context.Background(), config(), deps(fs, seed))
	if err != nil {
		return nil, err
	}
	return serve(e), nil
}

func serve(e *engine.Engine) *run {
	ctx, cancel := context.WithCancel(context.Background())
	r := &run{Engine: e, stop: cancel, done: make(chan error, 1)}
	go func() { r.done <- e.Run(ctx) }()
	return r
}

// close stops as SIGTERM does.
func (r *run) close() error {
	r.stop()
	return errors.Join(<-r.done, r.Engine.Close())
}

func (r *run) table(name string) (*table.Table, error) {
	cat, err := r.Catalog(tenant)
	if err != nil {
		return nil, err
	}
	return cat.Table(name)
}

const (
	journalManifest = `
namespace = "sim"
table = "journal"
primary_key = ["client"]
[[columns]]
name = "client"
ty = "i64"
[[columns]]
name = "seq"
ty = "i64"
`
	customersManifest = `
namespace = "sim"
table = "customers"
primary_key = ["id"]
[[columns]]
name = "id"
ty = "i64"
[[columns]]
name = "email"
ty = "str"
[[columns]]
name = "city"
ty = "str"
[[columns]]
name = "score"
ty = "f64"
[[columns]]
name = "note"
ty = "str"
[[indexes]]
name = "by_email"
columns = ["email"]
unique = true
[[indexes]]
name = "by_city"
columns = ["city"]
`
	ordersManifest = `
namespace = "sim"
table = "orders"
primary_key = ["id"]
[[columns]]
name = "id"
ty = "i64"
[[columns]]
name = "customer"
ty = "i64"
[[columns]]
name = "tag"
ty = "str"
[[columns]]
name = "note"
ty = "str"
[[foreign_keys]]
from_col = "customer"
target_schema = "sim.customers"
target_col = "id"
`
)

// scratchManifest is a table that one request makes and another drops.
func scratchManifest(name string) string {
	return fmt.Sprintf(`
namespace = "sim"
table = %q
primary_key = ["id"]
[[columns]]
name = "id"
ty = "i64"
[[columns]]
name = "word"
ty = "str"
[[indexes]]
name = "by_word"
columns = ["word"]
`, name)
}
