package purge_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"originchain/shared/archive"
	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/object"
)

// eachOp calls visit for the operations of every frame in every object of an archive.
func eachOp(t testing.TB, store object.Store, visit func(name string, f *frame.Frame, o *frame.Op)) {
	t.Helper()
	a := archive.New(store)
	in, err := a.Instance(t.Context())
	must(t, err)
	for name := range objects(t, store) {
		k, err := archive.ParseKey(name)
		must(t, err)
		f, err := a.OpenFrames(t.Context(), k, in.Instance)
		if err != nil {
			continue // a document or a file
		}
		for {
			fr, err := f.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			must(t, err)
			encoded, err := frame.OpsOf(fr.Kind, fr.Body)
			must(t, err)
			ops, err := frame.DecodeOps(encoded)
			must(t, err)
			for i := range ops {
				visit(name, fr, &ops[i])
			}
		}
		must(t, f.Close())
	}
}

// nothingReplacesTheSubject: no operation that was left says that it replaces or deletes
// one of the subject's pairs: where a replay begins there it would look for the pair,
// which the state does not have.
func nothingReplacesTheSubject(t testing.TB, before, after object.Store) (taken int) {
	t.Helper()
	theirs := map[lsn.Digest]bool{}
	ofTheirs := func(o *frame.Op) bool {
		return bytes.Contains(o.Key, []byte(mark)) || bytes.Contains(o.Value, []byte(mark))
	}
	eachOp(t, before, func(_ string, _ *frame.Frame, o *frame.Op) {
		if o.Type == frame.Put && ofTheirs(o) {
			theirs[frame.PairHash(o.Key, o.Value)] = true
		}
	})
	eachOp(t, before, func(_ string, _ *frame.Frame, o *frame.Op) {
		if o.Type == frame.Put && o.HadOld && theirs[o.Old] && !ofTheirs(o) {
			taken++
		}
	})
	eachOp(t, after, func(name string, f *frame.Frame, o *frame.Op) {
		if (o.HadOld || o.Type == frame.Delete) && theirs[o.Old] {
			t.Errorf("%s: LSN %d replaces a pair of the subject's under %x", name, f.LSN, o.Key)
		}
	})
	return taken
}
