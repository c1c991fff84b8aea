package pitr

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/aws/s3object"
	"originchain/shared/aws/s3object/s3test"
	"originchain/shared/object"
	"originchain/shared/purge"
	"originchain/shared/restore"
)

func TestMain(m *testing.M) { s3test.Main(m) }

// TestAnArchiveInS3 is restored as one in a folder is.
func TestAnArchiveInS3(t *testing.T) {
	var w *Workload
	bubble(t, func(t *testing.T) { w = Record(t, object.NewMemory("archive"), 15) })
	c := &cli{t: t, openers: map[string]object.Opener{"s3": s3object.Open}}
	where := s3test.NewBucket(t, true).URL("some/prefix")
	store, err := object.Open(t.Context(), where, c.openers)
	must(t, err)
	copyObjects(t, store, w.Store)
	h := w.Lines[2]
	var got restore.Result
	c.document(0, &got, "restore", "--archive", where, "--data-dir", filepath.Join(t.TempDir(), "restored"), "--epoch", "2", "--target-lsn", "20")
	sameState(t, h, 20, &got)
	disk := vfs.NewMem()
	latest, err := restore.Run(t.Context(), options(store, disk, restore.Request{Epoch: 2, Latest: true}))
	must(t, err)
	sameState(t, h, h.Last(), latest)
}

// TestAPurgeLeavesNoVersions: in a bucket that keeps versions nothing is left of what a
// purge has replaced, of what was deleted before it, nor a mark of either.
func TestAPurgeLeavesNoVersions(t *testing.T) {
	var w *Workload
	bubble(t, func(t *testing.T) { w = Subjects(t, object.NewMemory("archive")) })
	b := s3test.NewBucket(t, true)
	s, err := object.Open(t.Context(), b.URL("some/prefix"), map[string]object.Opener{"s3": s3object.Open})
	must(t, err)
	copyObjects(t, s, w.Store)
	// Retention has deleted what no list tells of any more; S3 has it still.
	telling := []byte("subject-first, long ago")
	must(t, s.Put(t.Context(), "objects/"+strings.Repeat("ab", 32), object.Bytes(telling)))
	must(t, s.Delete(t.Context(), "objects/"+strings.Repeat("ab", 32)))
	before, marks := b.Versions(t)
	if marks == 0 || !slices.ContainsFunc(before, func(v s3test.Version) bool { return bytes.Equal(v.Body, telling) }) {
		t.Fatalf("the bucket keeps no versions: %d marks", marks)
	}
	o := purgeOptions(s)
	plan, err := purge.MakePlan(t.Context(), o)
	must(t, err)
	got, err := purge.Run(t.Context(), o, plan.ID)
	must(t, err)
	if got.Erased == 0 || got.Versions < 2 {
		t.Errorf("purged %+v", got)
	}
	silent(t, s, plan)
	after, marks := b.Versions(t)
	if marks != 0 {
		t.Errorf("%d marks of deletions are left", marks)
	}
	now := objectsIn(t, s)
	for _, v := range after {
		if key := strings.TrimPrefix(v.Key, "some/prefix/"); !v.Newest || !now[key] {
			t.Errorf("a version of %s is left: the newest: %t", v.Key, v.Newest)
		}
		if bytes.Contains(v.Body, []byte("subject")) {
			t.Errorf("a version of %s tells of the subject", v.Key)
		}
	}
	latest, err := restore.Run(t.Context(), options(s, vfs.NewMem(), restore.Request{Latest: true}))
	must(t, err)
	sameState(t, w.Lines[2], w.Lines[2].Last(), latest)
}

func objectsIn(t *testing.T, s object.Store) map[string]bool {
	t.Helper()
	list, err := s.List(t.Context(), "", "", object.MaxList)
	must(t, err)
	out := map[string]bool{}
	for _, info := range list {
		out[info.Key] = true
	}
	return out
}

func copyObjects(t testing.TB, to, from object.Store) {
	t.Helper()
	list, err := from.List(t.Context(), "", "", object.MaxList)
	must(t, err)
	if len(list) == 0 || len(list) == object.MaxList {
		t.Fatalf("%d objects", len(list))
	}
	for _, x := range list {
		r, err := from.Get(t.Context(), x.Key, 0, -1)
		must(t, err)
		b, err := io.ReadAll(r)
		must(t, errors.Join(err, r.Close()))
		must(t, to.Put(t.Context(), x.Key, object.Bytes(b)))
	}
}
