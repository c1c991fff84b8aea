package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/objecttest"
	"originchain/shared/table"
)

// stateDir makes a directory that stands for a copy of the state.
func (n *node) stateDir(name string, files map[string]string) string {
	n.t.Helper()
	must(n.t, n.fs.RemoveAll(name))
	must(n.t, n.fs.MkdirAll(name, 0o700))
	for file, content := range files {
		f, err := n.fs.Create(n.fs.PathJoin(name, file), vfs.WriteCategoryUnspecified)
		must(n.t, err)
		_, err = f.Write([]byte(content))
		must(n.t, err)
		must(n.t, f.Close())
	}
	return name
}

// applied is where the state of the whole log stands.
func (n *node) applied() table.Applied {
	tail := n.log.Tail()
	return table.Applied{Pos: tail.Pos, Chain: tail.Chain, Digest: tail.Digest, Stamp: tail.Timestamp}
}

// checkpoint ships one of the log's end.
func (n *node) checkpoint(s *Shipper, files map[string]string) (Shipped, error) {
	n.t.Helper()
	return s.ShipCheckpoint(n.t.Context(), n.stateDir("copy", files), n.applied(), n.log.Durable)
}

// started runs a shipper until it is connected.
func started(t testing.TB, s *Shipper) func() error {
	t.Helper()
	stop := running(t, s)
	synctest.Wait()
	if !s.Status().Connected {
		t.Fatal("not connected")
	}
	return stop
}

func TestACheckpointUploadsWhatIsNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := object.NewMemory("a")
		n := newNode(t, 1).open(3)
		s := n.shipper(store)
		stop := started(t, s)
		n.write(5)
		got, err := n.checkpoint(s, map[string]string{"000001.sst": "one", "000002.sst": "two", "MANIFEST": "m1", "same": "one"})
		must(t, err)
		if want := (Shipped{Key: CheckpointKey{LSN: n.log.Durable(), Epoch: 3}, Files: 4, NewFiles: 3, Bytes: 11, NewBytes: 8}); got != want {
			t.Errorf("the first: %+v, want %+v", got, want)
		}
		n.write(5)
		got, err = n.checkpoint(s, map[string]string{"000001.sst": "one", "000003.sst": "three", "MANIFEST": "m2"})
		must(t, err)
		if got.NewFiles != 2 || got.NewBytes != 7 {
			t.Errorf("the second: %+v", got)
		}
		if again, err := n.checkpoint(s, map[string]string{"000001.sst": "one"}); err != nil || !again.Present {
			t.Errorf("the same place again: %+v, %v", again, err)
		}
		a := New(store)
		m, err := a.Manifest(t.Context(), got.Key)
		must(t, err)
		if at := n.applied(); m.Digest != at.Digest || m.Chain != at.Chain || m.Stamp != at.Stamp || len(m.Files) != 3 {
			t.Errorf("%+v", m)
		}
		for i := range m.Files {
			r, err := a.OpenFile(t.Context(), &m.Files[i])
			must(t, err)
			b, err := io.ReadAll(r)
			must(t, errors.Join(err, r.Close()))
			if want := map[string]string{"000001.sst": "one", "000003.sst": "three", "MANIFEST": "m2"}[m.Files[i].Name]; string(b) != want {
				t.Errorf("%s is %q, not %q", m.Files[i].Name, b, want)
			}
		}
		time.Sleep(90 * time.Second)
		if st := s.Status(); st.CheckpointLSN != uint64(n.log.Durable()) || st.CheckpointSeconds != 90 {
			t.Errorf("%+v", st)
		}
		must(t, stop())
		must(t, n.log.Close())
	})
}

func TestACheckpointIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 1).open(3)
		s := n.shipper(object.NewMemory("a"))
		if _, err := n.checkpoint(s, map[string]string{"a": "b"}); !errors.Is(err, ErrNotConnected) {
			t.Errorf("before the archive was reached: %v", err)
		}
		stop := started(t, s)
		at := n.applied()
		if _, err := s.ShipCheckpoint(t.Context(), "copy", at, func() lsn.LSN { return at.Pos.LSN - 1 }); !errors.Is(err, ErrAboveCommit) {
			t.Errorf("above the commit LSN: %v", err)
		}
		below := Boundary{Head: Head{Format: format, Instance: testInstance}, Number: 1, Time: moment(time.Now()), Until: moment(time.Now()), Highest: 3, Kept: []KeptFrom{{3, at.Pos.LSN + 2}}}
		_, err := New(s.deps.Store).putDocument(t.Context(), BoundaryKey{1}, &below)
		must(t, err)
		if _, err := n.checkpoint(s, map[string]string{"a": "b"}); !errors.Is(err, ErrSuperseded) {
			t.Errorf("below what retention keeps: %v", err)
		}
		n.write(1)
		if _, err := n.checkpoint(s, map[string]string{"a": "b"}); err != nil {
			t.Errorf("just at what retention keeps: %v", err)
		}
		at.Pos.Epoch--
		if _, err := s.ShipCheckpoint(t.Context(), "copy", at, n.log.Durable); !errors.Is(err, ErrNotOwnEpoch) {
			t.Errorf("of another epoch: %v", err)
		}
		must(t, stop())
		must(t, n.log.Close())
	})
}

// TestACheckpointUnderFaults: a manifest is there only if all its files are, at every
// moment, and in the end it is there.
func TestACheckpointUnderFaults(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			memory := object.NewMemory("a")
			store := objecttest.NewFaulty(memory, seed)
			n := newNode(t, seed).open(1)
			s := n.shipper(store)
			stop := started(t, s)
			store.SetRates(anyFault(0.1))
			store.SetHook(objecttest.Hook{After: func(_ context.Context, _ objecttest.Call, err error) error {
				allComplete(t, memory)
				return err
			}})
			for i := range 4 {
				n.write(1)
				_, err := n.checkpoint(s, map[string]string{"a.sst": "a", "b.sst": fmt.Sprint(i / 2), "MANIFEST": fmt.Sprint(i)})
				must(t, err)
			}
			if got := len(objects(t, memory, checkpointPrefix)); got != 4 {
				t.Errorf("%d checkpoints", got)
			}
			must(t, stop())
			must(t, n.log.Close())
		})
	}
}

func allComplete(t testing.TB, store object.Store) {
	t.Helper()
	a := New(store)
	ctx := context.WithoutCancel(t.Context())
	list, err := keys[CheckpointKey](ctx, a, checkpointPrefix, "", nil)
	must(t, err)
	for _, k := range list {
		m, err := a.Manifest(ctx, k.Key)
		must(t, err)
		if err := a.Complete(ctx, &m); err != nil {
			t.Errorf("%s: %v", k.Key, err)
		}
	}
}
