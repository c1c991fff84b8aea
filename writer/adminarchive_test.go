package writer

import (
	"encoding/hex"
	"errors"
	"io"
	"testing"

	"originchain/shared/archive"
	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/simdisk"
)

// What the archive holds is told with stamps and hashes of what this node has shipped,
// also when its log has let go of it, and with the place up to which it is recoverable.
func TestTheArchiveIsListedWithWhatTheNodeKnows(t *testing.T) {
	store := object.NewMemory("memory")
	disk := simdisk.New()
	n := open(t, disk, archived(store))
	n.tenant, n.token = n.newTenant(`{}`)
	if out := n.archiveOf(); out.RecoverableLSN != nil && out.RecoverableUntil == nil {
		t.Errorf("at first: %+v", out)
	}
	n.register(archivedManifest)
	n.fill(0, 200)
	becomes(t, "the log lets go of what is shipped", func() bool {
		n.fill(0, 100)
		return n.w.own.Log().FirstLSN() > 1
	})
	n.shippedAll()
	last := n.w.Visible().LSN
	st := n.w.Shell.archiver.Load().shipper.Status()
	out := n.archiveOf()
	if out.RecoverableLSN == nil || *out.RecoverableLSN != uint64(last) || out.RecoverableUntil == nil || out.RecoverableUntil.UnixMicro() != st.RecoverableStamp {
		t.Errorf("recoverable to %v until %v, want %d until %d", out.RecoverableLSN, out.RecoverableUntil, last, st.RecoverableStamp)
	}
	a, gone := archive.New(store), 0
	for _, x := range out.Segments {
		if x.SealedAt == nil {
			t.Errorf("%s has no stamp", x.Key)
		}
		if x.Kind != "segment" {
			continue
		}
		k, err := archive.ParseKey(x.Key)
		if err != nil {
			t.Fatal(err)
		}
		f, err := a.OpenSegment(t.Context(), k.(archive.SegmentKey), n.w.own.Identity().InstanceID)
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = f.Next()
		}
		if sum := f.Footer().SHA256; !errors.Is(err, io.EOF) || x.SHA256 == nil || *x.SHA256 != hex.EncodeToString(sum[:]) || x.SealedAt.UnixMicro() != f.Footer().Timestamp {
			t.Errorf("%+v, its footer says %x at %d: %v", x, sum, f.Footer().Timestamp, err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if lsn.LSN(x.LSNEnd) < n.w.own.Log().FirstLSN() {
			gone++
		}
	}
	if gone == 0 {
		t.Error("the log still has all segments: nothing was tested")
	}

	// A node that has shipped nothing and has no log reads the tail.
	survey, err := a.Survey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l := &archiveListing{a: a, survey: survey}
	if got, until, ok := l.recoverable(t.Context()); !ok || got != last || until == nil || until.UnixMicro() != st.RecoverableStamp {
		t.Errorf("without a log: %d until %v", got, until)
	}
	for _, x := range l.objects() {
		if x.Kind == "segment" && (x.SHA256 != nil || x.SealedAt != nil) {
			t.Errorf("without a log: %+v", x)
		}
	}
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}

	// After a restart what is not known is null.
	n = open(t, disk, archived(store))
	n.shippedAll()
	nulls := 0
	out = n.archiveOf()
	for _, x := range out.Segments {
		if x.SealedAt == nil {
			nulls++
		}
	}
	if nulls == 0 || nulls == len(out.Segments) || out.RecoverableUntil == nil || *out.RecoverableLSN <= uint64(last) {
		t.Errorf("after a restart %d of %d have no stamp, recoverable to %d until %v", nulls, len(out.Segments), *out.RecoverableLSN, out.RecoverableUntil)
	}
}
