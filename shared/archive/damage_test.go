package archive

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oklog/ulid/v2"

	"originchain/shared/object"
	"originchain/shared/telemetry"
)

// readAll reads an object of frames to its end.
func readAll(t testing.TB, a *Archive, k Key, instance ulid.ULID) error {
	t.Helper()
	var f *Frames
	var err error
	switch k := k.(type) {
	case SegmentKey:
		f, err = a.OpenSegment(t.Context(), k, instance)
	case PartKey:
		f, err = a.OpenPart(t.Context(), k, instance)
	}
	if err != nil {
		return err
	}
	for err == nil {
		_, err = f.Next()
	}
	if cerr := f.Close(); cerr != nil {
		return cerr
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// TestADamagedObjectIsNamed: every byte of a segment and of a part is flipped once, and
// each is cut at every length: reading tells damage, by name, or gives what was put.
func TestADamagedObjectIsNamed(t *testing.T) {
	var objectsOf map[Key][]byte
	synctest.Test(t, func(t *testing.T) {
		store := object.NewMemory("a")
		n := newNode(t, 1).open(1)
		n.value, n.size = func(n int) []byte { return make([]byte, n) }, 20
		n.write(3)
		n.roll()
		s := n.shipper(store, func(c *Config) { c.Tail = true })
		stop := started(t, s)
		n.write(2)
		time.Sleep(time.Second)
		must(t, stop())
		must(t, n.log.Close())
		objectsOf = make(map[Key][]byte)
		for _, prefix := range []string{logPrefix, tailPrefix} {
			k, err := ParseKey(objects(t, store, prefix)[0])
			must(t, err)
			r, err := store.Get(t.Context(), k.String(), 0, -1)
			must(t, err)
			b, err := io.ReadAll(r)
			must(t, errors.Join(err, r.Close()))
			objectsOf[k] = b
		}
	})
	for k, good := range objectsOf {
		read := func(b []byte, instance ulid.ULID) error {
			store := object.NewMemory("b")
			must(t, store.Put(t.Context(), k.String(), object.Bytes(b)))
			return readAll(t, New(store), k, instance)
		}
		must(t, read(good, testInstance))
		var damaged *DamagedError
		var foreign *ForeignError
		harmless := 0
		for i := range good {
			bad := []byte(string(good))
			bad[i] ^= 0x10
			// A bit that zstd does not use changes nothing: all frames were good.
			if err := read(bad, testInstance); err == nil {
				harmless++
			} else if !errors.As(err, &damaged) || damaged.Key != k.String() {
				t.Fatalf("%s with byte %d flipped: %v", k, i, err)
			}
			if err := read(good[:i], testInstance); !errors.As(err, &damaged) || damaged.Key != k.String() {
				t.Fatalf("%s cut at %d: %v", k, i, err)
			}
		}
		if harmless > 5 {
			t.Errorf("%s: %d of %d flips were not told", k, harmless, len(good))
		}
		if err := read(append([]byte(string(good)), good...), testInstance); !errors.As(err, &damaged) {
			t.Errorf("%s twice: %v", k, err)
		}
		if err := read(good, ulid.ULID{1}); !errors.As(err, &foreign) || foreign.Key != k.String() {
			t.Errorf("%s of another instance: %v", k, err)
		}
		var missing *MissingError
		if err := readAll(t, New(object.NewMemory("c")), k, testInstance); !errors.As(err, &missing) || missing.Key != k.String() {
			t.Errorf("%s that is not there: %v", k, err)
		}
	}
}

// TestUploadedBytes counts what is uploaded for each byte that is logged.
func TestUploadedBytes(t *testing.T) {
	rows := func(n int) []byte {
		b := make([]byte, 0, n)
		for i := 0; len(b) < n; i++ {
			b = append(b, `{"airport":"FRA","status":"departed","delay_minutes":`...)
			b = append(b, byte('0'+i%10), '}')
		}
		return b
	}
	for _, c := range []struct {
		name  string
		value func(int) []byte
		size  int
		tail  bool
		most  float64
	}{
		{"rows/tail=true", rows, 2000, true, 1.05}, {"rows/tail=false", rows, 2000, false, 0.55},
		{"small/tail=true", rows, 120, true, 1.7}, {"random/tail=false", nil, 2000, false, 1.05}, {"random/tail=true", nil, 2000, true, 2.1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, m := object.NewMemory("a"), telemetry.NewMetrics()
				n := newNode(t, 1)
				n.segs, n.value, n.size = 1<<20, c.value, c.size
				n.open(1)
				s, err := NewShipper(Config{Instance: testInstance, Epoch: 1, Node: "n", Tail: c.tail}, Deps{Store: store, Log: n.log, FS: n.fs, Logger: quiet(), Metrics: NewMetrics(m)})
				must(t, err)
				stop := started(t, s)
				for range 100 {
					n.write(10)
					time.Sleep(250 * time.Millisecond)
				}
				n.roll()
				time.Sleep(time.Minute)
				must(t, stop())
				var logged, uploaded int64
				for _, x := range n.log.Segments() {
					logged += x.Bytes
				}
				for _, prefix := range []string{logPrefix, tailPrefix} {
					list, err := store.List(context.WithoutCancel(t.Context()), prefix, "", object.MaxList)
					must(t, err)
					for _, x := range list {
						uploaded += x.Size
					}
				}
				ratio := float64(uploaded) / float64(logged)
				t.Logf("%d bytes logged, %d uploaded: %.2f", logged, uploaded, ratio)
				if ratio > c.most {
					t.Errorf("%.2f bytes are uploaded for each byte logged, want at most %.2f", ratio, c.most)
				}
				families, err := m.Gatherer().Gather()
				must(t, err)
				var counted float64
				for _, f := range families {
					if f.GetName() == "oc_archive_uploaded_bytes_total" {
						for _, x := range f.GetMetric() {
							counted += x.GetCounter().GetValue()
						}
					}
				}
				if counted != float64(uploaded) {
					t.Errorf("the metric says %.0f bytes, %d are there", counted, uploaded)
				}
				must(t, n.log.Close())
			})
		})
	}
}
