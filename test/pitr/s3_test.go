package pitr

import (
	"errors"
	"io"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/aws/s3object"
	"originchain/shared/aws/s3object/s3test"
	"originchain/shared/object"
	"originchain/shared/restore"
)

func TestMain(m *testing.M) { s3test.Main(m) }

// TestAnArchiveInS3 is restored as one in a folder is.
func TestAnArchiveInS3(t *testing.T) {
	var w *Workload
	bubble(t, func(t *testing.T) { w = Record(t, object.NewMemory("archive"), 15) })
	c := &cli{t: t, openers: map[string]object.Opener{"s3": s3object.Open}}
	where := s3test.NewBucket(t, true).URL("some/prefix")
	s3, err := object.Open(t.Context(), where, c.openers)
	must(t, err)
	copyObjects(t, s3, w.Store)
	h := w.Lines[2]
	var got restore.Result
	c.document(0, &got, "restore", "--archive", where, "--data-dir", filepath.Join(t.TempDir(), "restored"), "--epoch", "2", "--target-lsn", "20")
	sameState(t, h, 20, &got)
	disk := vfs.NewMem()
	latest, err := restore.Run(t.Context(), options(s3, disk, restore.Request{Epoch: 2, Latest: true}))
	must(t, err)
	sameState(t, h, h.Last(), latest)
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
