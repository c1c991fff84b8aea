package purge_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"originchain/shared/archive"
	"originchain/shared/frame"
	"originchain/shared/object"
	"originchain/shared/restore"
	"originchain/shared/simdisk"
	"originchain/shared/wal"
)

// exchanged is another store with the same objects, but for one.
func exchanged(t testing.TB, store object.Store, key string, b []byte) object.Store {
	t.Helper()
	out := object.NewMemory("archive")
	for k, was := range objects(t, store) {
		if k == key {
			was = b
		}
		must(t, out.Put(t.Context(), k, object.Bytes(was)))
	}
	return out
}

// emptied is a segment or a part whose redacted frames have nothing left.
func emptied(t testing.TB, store object.Store, name string) []byte {
	t.Helper()
	a := archive.New(store)
	in, err := a.Instance(t.Context())
	must(t, err)
	k, err := archive.ParseKey(name)
	must(t, err)
	f, err := a.OpenFrames(t.Context(), k, in.Instance)
	must(t, err)
	w, err := wal.NewRewrite(f.Header())
	must(t, err)
	for {
		fr, err := f.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		if !fr.Redacted {
			must(t, w.Keep(fr, f.Raw()))
			continue
		}
		encoded, err := frame.OpsOf(fr.Kind, fr.Body)
		must(t, err)
		must(t, w.Redact(fr, frame.AppendOps(append([]byte{}, fr.Body[:len(fr.Body)-len(encoded)]...), nil)))
	}
	scratch := object.NewMemory("scratch")
	must(t, archive.New(scratch).PutRewritten(t.Context(), k, w.Bytes(f.Footer() != nil), in.Instance, f.Tail()))
	must(t, errors.Join(f.Close(), w.Close()))
	return read(t, scratch, name)
}

// TestAFrameIsWhatThePurgesSay: one that stands as it was before, one of which something
// else was left, and one that no record speaks of, each end a restore and a stream.
func TestAFrameIsWhatThePurgesSay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := live(t)
		before := copyOf(t, l.store)
		run(t, optionsOf(l.store, theSubject))
		s, err := archive.New(l.store).Survey(t.Context())
		must(t, err)
		r := &s.Redactions[0]
		at := r.Frames[1].LSN // the first one has a checkpoint of its own
		x := r.Replaced[0]
		for i := range r.Replaced {
			k, err := archive.ParseKey(r.Replaced[i].Old)
			must(t, err)
			if seg, ok := k.(archive.SegmentKey); ok && seg.First <= at && at <= seg.Last {
				x = r.Replaced[i]
			}
		}
		for name, c := range map[string]struct {
			store object.Store
			says  string
		}{
			"as it was":        {exchanged(t, l.store, x.New, read(t, before, x.Old)), "as it was before"},
			"another rest":     {exchanged(t, l.store, x.New, emptied(t, l.store, x.New)), "what is left of it"},
			"without a record": {exchanged(t, before, x.Old, read(t, l.store, x.New)), "what is left of it"},
		} {
			req := restore.Request{Epoch: 1, LSN: at}
			var damaged *archive.DamagedError
			_, err := restore.Run(t.Context(), restore.Options{Store: c.store, FS: simdisk.New(), DataDir: "/restored", Request: req, CacheBytes: 1 << 20, MemtableBytes: 256 << 10})
			if !errors.As(err, &damaged) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: restored: %v", name, err)
			}
			stream, err := restore.Stream(t.Context(), restore.StreamOptions{Store: c.store, FS: simdisk.New(), Scratch: "/scratch", Request: req})
			if err == nil {
				must(t, stream.Close())
			}
			if !errors.As(err, &damaged) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: streamed: %v", name, err)
			}
		}
	})
}
