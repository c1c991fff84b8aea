package archive

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/oklog/ulid/v2"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/simdisk"
	"originchain/shared/wal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testInstance = ulid.MustParse("01JADE0000000000000000000A")

func quiet() logrus.FieldLogger {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return l
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// node is a machine with a log.
type node struct {
	t     testing.TB
	fs    vfs.FS
	log   *wal.Log
	epoch lsn.Epoch
	rng   *rand.Rand
	state map[string][]byte
	made  map[lsn.LSN][]byte // bodies, as they must come back
	segs  int64              // bytes at which a segment is sealed
	name  string
	// value makes what is written; nil is random bytes.
	value func(n int) []byte
	size  int
}

func newNode(t testing.TB, seed uint64) *node {
	return &node{t: t, fs: simdisk.New(), rng: rand.New(rand.NewPCG(seed, 1)), state: map[string][]byte{}, made: map[lsn.LSN][]byte{}, segs: wal.MinSegmentBytes, name: "node-a", size: 200}
}

func (n *node) options() wal.Options {
	return wal.Options{FS: n.fs, Dir: "log", Instance: testInstance, SegmentBytes: n.segs, Log: quiet(), NoPreallocate: true, Rand: rand.NewChaCha8([32]byte{byte(n.rng.Uint32())})}
}

// open opens the log as the writer of an epoch, whose frame it writes.
func (n *node) open(epoch lsn.Epoch) *node {
	n.t.Helper()
	l, err := wal.Open(n.options())
	must(n.t, err)
	must(n.t, l.BeginEpoch(epoch))
	n.log, n.epoch = l, epoch
	n.write(1)
	return n
}

// write commits groups of one frame each.
func (n *node) write(frames int) {
	n.t.Helper()
	for range frames {
		must(n.t, n.log.Append([]wal.Entry{n.entry()}))
		must(n.t, n.log.Sync())
	}
}

// roll makes the segment too old and writes one frame, which begins the next.
func (n *node) roll() {
	n.t.Helper()
	if _, err := n.log.RollIfAged(time.UnixMicro(n.log.Tail().Timestamp).Add(time.Hour)); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) entry() wal.Entry {
	tail := n.log.Tail()
	key := fmt.Sprintf("key-%d", n.rng.IntN(8))
	old, had := n.state[key]
	op := frame.Op{Type: frame.Put, Key: []byte(key), HadOld: had}
	if had {
		op.Old = frame.PairHash(op.Key, old)
	}
	if n.value != nil {
		op.Value = n.value(n.size)
	} else {
		op.Value = make([]byte, n.size)
		for i := range op.Value {
			op.Value[i] = byte(n.rng.Uint32())
		}
	}
	n.state[key] = op.Value
	e := wal.Entry{
		Kind: frame.KindData, LSN: tail.Pos.LSN + 1, Timestamp: max(tail.Timestamp+1, time.Now().UnixMicro()),
		Digest: tail.Digest.Add(op.Delta()), Body: frame.AppendOps(nil, []frame.Op{op}),
	}
	binary.LittleEndian.PutUint64(e.Salt[:], n.rng.Uint64())
	binary.LittleEndian.PutUint64(e.Salt[8:], n.rng.Uint64())
	n.made[e.LSN] = e.Body
	return e
}

// copyTo makes another node whose log is this one's up to an LSN.
func (n *node) copyTo(name string, upTo lsn.LSN) *node {
	n.t.Helper()
	o := newNode(n.t, uint64(len(name)))
	o.segs, o.name, o.value, o.size = n.segs, name, n.value, n.size
	for k, v := range n.state {
		o.state[k] = v
	}
	l, err := wal.Open(o.options())
	must(n.t, err)
	r, err := n.log.NewChunkReader(n.log.FirstLSN())
	must(n.t, err)
	for l.Tail().Pos.LSN < upTo {
		c, ok, err := r.Next(1)
		must(n.t, err)
		if !ok {
			break
		}
		must(n.t, l.Copy(c))
	}
	must(n.t, r.Close())
	must(n.t, l.Sync())
	o.made = make(map[lsn.LSN][]byte)
	for at, b := range n.made {
		if at <= l.Tail().Pos.LSN {
			o.made[at] = b
		}
	}
	must(n.t, l.Close())
	return o
}

func (n *node) opener(path string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return n.fs.Open(path) }
}

func (n *node) config() Config {
	return Config{Instance: testInstance, Epoch: n.epoch, Node: n.name, Region: "eu-central-1"}
}

// shipper makes one; with changes its configuration.
func (n *node) shipper(store object.Store, with ...func(*Config)) *Shipper {
	n.t.Helper()
	cfg := n.config()
	for _, f := range with {
		f(&cfg)
	}
	s, err := NewShipper(cfg, Deps{Store: store, Log: n.log, FS: n.fs, Logger: quiet()})
	must(n.t, err)
	return s
}

// running runs s until stop is called, which returns what Run did.
func running(t testing.TB, s *Shipper) (stop func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return func() error {
		cancel()
		return <-done
	}
}

// framesOf reads all frames of the line of an epoch, each verified.
func framesOf(t testing.TB, store object.Store, epoch lsn.Epoch) map[lsn.LSN][]byte {
	t.Helper()
	a := New(store)
	survey, err := a.Survey(t.Context())
	must(t, err)
	if len(survey.Faults) > 0 {
		t.Fatal(errors.Join(survey.Faults...))
	}
	l, ok := survey.Line(epoch)
	if !ok {
		t.Fatalf("there is no line of epoch %d", epoch)
	}
	if l.Broken != "" {
		t.Fatalf("the line of epoch %d lacks %s", epoch, l.Broken)
	}
	got := make(map[lsn.LSN][]byte)
	var prev *wal.Tail
	for _, r := range l.Ranges {
		for _, p := range r.Pieces {
			prev = readPiece(t, a, p, prev, got)
		}
	}
	return got
}

// readPiece reads what a piece is to give, and sees that it goes on where the piece
// before ended.
func readPiece(t testing.TB, a *Archive, p Piece, prev *wal.Tail, got map[lsn.LSN][]byte) *wal.Tail {
	t.Helper()
	f := openPiece(t, a, p)
	defer func() { must(t, f.Close()) }()
	at := f.Tail()
	for {
		if prev != nil && at.Pos.LSN == prev.Pos.LSN && at.Chain != prev.Chain {
			t.Fatalf("%+v does not continue LSN %d", p, prev.Pos.LSN)
		}
		fr, err := f.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		if at = f.Tail(); fr.LSN >= p.From && fr.LSN <= p.To {
			got[fr.LSN] = bytes.Clone(fr.Body)
			last := at
			prev = &last
		}
	}
	return prev
}

func openPiece(t testing.TB, a *Archive, p Piece) *Frames {
	t.Helper()
	var f *Frames
	var err error
	if p.Segment != nil {
		f, err = a.OpenSegment(t.Context(), *p.Segment, testInstance)
	} else {
		f, err = a.OpenPart(t.Context(), *p.Part, testInstance)
	}
	must(t, err)
	return f
}

// holds says that the archive has exactly the node's frames up to an LSN.
func (n *node) holds(store object.Store, epoch lsn.Epoch, upTo lsn.LSN) {
	n.t.Helper()
	got := framesOf(n.t, store, epoch)
	for at := lsn.LSN(1); at <= upTo; at++ {
		if !bytes.Equal(got[at], n.made[at]) || got[at] == nil {
			n.t.Fatalf("LSN %d of %d in the archive is not what was written (%d bytes, want %d)", at, upTo, len(got[at]), len(n.made[at]))
		}
		delete(got, at)
	}
	for at := range got {
		if at > upTo && !bytes.Equal(got[at], n.made[at]) {
			n.t.Fatalf("LSN %d in the archive was never written", at)
		}
	}
}

// objects lists the keys below a prefix.
func objects(t testing.TB, store object.Store, prefix string) (out []string) {
	t.Helper()
	list, err := store.List(context.WithoutCancel(t.Context()), prefix, "", object.MaxList)
	must(t, err)
	for _, x := range list {
		out = append(out, x.Key)
	}
	return out
}
