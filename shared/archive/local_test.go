package archive

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/object"
	"originchain/shared/telemetry"
	"originchain/shared/wal"
)

// moody is a file system whose reading of segments goes wrong as told; n counts how
// often one was opened.
type moody struct {
	vfs.FS
	mu    sync.Mutex
	n     int
	spoil func(n int, f vfs.File) (vfs.File, error)
}

func (m *moody) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := m.FS.Open(name, opts...)
	if err != nil || !strings.HasSuffix(name, ".log") {
		return f, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.n++
	return m.spoil(m.n, f)
}

func (m *moody) opened() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.n
}

// flipped reads one byte wrong.
type flipped struct {
	vfs.File
	pos int
}

func (f *flipped) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	if at := 200 - f.pos; at >= 0 && at < n {
		p[at] ^= 4
	}
	f.pos += n
	return n, err
}

func (f *flipped) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	if at := 200 - off; at >= 0 && at < int64(n) {
		p[at] ^= 4
	}
	return n, err
}

// The bytes that are uploaded are those that were verified: a disk that gives others
// puts nothing into the archive, whichever reading of a segment it is, and is told of for
// as long as it does so. When it gives what was written again the shipping goes on; the
// file is there all along.
func TestWhatIsUploadedIsWhatWasVerified(t *testing.T) {
	for name, of := range map[string]struct {
		from, to int
		memory   int64
	}{
		"verifying": {1, 4, keepBytes}, "compressing": {2, 5, keepBytes}, "sending what memory has no room for": {3, 6, 0},
		"for good": {2, 1 << 30, keepBytes}, "sending, for good": {3, 1 << 30, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := object.NewMemory("a")
				n := newNode(t, 1).open(1)
				n.write(3)
				n.roll()
				disk := &moody{FS: n.fs}
				disk.spoil = func(n int, f vfs.File) (vfs.File, error) {
					if n >= of.from && n < of.to {
						return &flipped{File: f}, nil
					}
					return f, nil
				}
				metrics := telemetry.NewMetrics()
				s, err := NewShipper(n.config(), Deps{Store: store, Log: n.log, FS: disk, Logger: quiet(), Metrics: NewMetrics(metrics)})
				must(t, err)
				s.keep = newRoom(of.memory)
				stop := running(t, s)
				told := ""
				for range 6000 { // a minute, so that no trouble is missed
					time.Sleep(10 * time.Millisecond)
					if disk.opened() < of.to {
						if got := objects(t, store, logPrefix); len(got) > 0 || s.ShippedLSN() > 0 {
							t.Fatalf("shipped up to LSN %d: %q", s.ShippedLSN(), got)
						}
					}
					if st := s.Status(); st.LastError != "" {
						told = st.LastError
					}
				}
				if !strings.Contains(told, "own log cannot be read as it was written") {
					t.Errorf("it told %q", told)
				}
				w := httptest.NewRecorder()
				metrics.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
				if strings.Contains(w.Body.String(), "\noc_archive_damaged_reads_total 0\n") {
					t.Error("no damaged reading was counted")
				}
				lasts := of.to == 1<<30
				if st := s.Status(); lasts != (st.LastError != "") || lasts == (s.ShippedLSN() == n.log.Durable()) {
					t.Errorf("shipped up to LSN %d of %d: %+v", s.ShippedLSN(), n.log.Durable(), st)
				}
				for _, info := range n.log.Segments() {
					if _, err := n.fs.Stat(info.Path); err != nil {
						t.Errorf("a local segment is gone: %v", err)
					}
				}
				for _, key := range objects(t, store, logPrefix) {
					k, err := ParseKey(key)
					must(t, err)
					if err := readAll(t, New(store), k, n.config().Instance); err != nil {
						t.Errorf("what was shipped: %v", err)
					}
				}
				must(t, stop())
				must(t, n.log.Close())
			})
		})
	}
}

// A disk that cannot be read for a while does not end the shipping.
func TestAReadThatFailsIsTriedAgain(t *testing.T) {
	for name, of := range map[string]struct {
		from, to int
		memory   int64
	}{
		"verifying": {1, 3, keepBytes}, "compressing": {2, 4, keepBytes}, "sending what memory has no room for": {3, 5, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := object.NewMemory("a")
				n := newNode(t, 1).open(1)
				n.write(3)
				n.roll()
				disk := &moody{FS: n.fs, spoil: func(n int, f vfs.File) (vfs.File, error) {
					if n >= of.from && n < of.to {
						_ = f.Close()
						return nil, syscall.EMFILE
					}
					return f, nil
				}}
				s, err := NewShipper(n.config(), Deps{Store: store, Log: n.log, FS: disk, Logger: quiet()})
				must(t, err)
				s.keep = newRoom(of.memory)
				stop := running(t, s)
				time.Sleep(time.Minute)
				if disk.opened() < of.to {
					t.Errorf("opened %d times, it fails up to the %dth: nothing was tested", disk.opened(), of.to)
				}
				if s.ShippedLSN() != n.log.Durable() {
					t.Errorf("shipped up to LSN %d of %d: %+v", s.ShippedLSN(), n.log.Durable(), s.Status())
				}
				if left := s.keep.left.Load(); left != of.memory {
					t.Errorf("%d bytes of room left of %d, and nothing is under way", left, of.memory)
				}
				must(t, stop())
				must(t, n.log.Close())
			})
		})
	}
}

// A tail that is behind meets segments that are shipped and let go of at any moment
// while it looks: it goes on behind them.
func TestTheTailGoesOnBehindWhatIsLetGo(t *testing.T) {
	for _, late := range []bool{false, true} {
		n := newNode(t, 1).open(1)
		s := n.shipper(object.NewMemory("a"))
		enc, err := newEncoder()
		must(t, err)
		cutter := &tailer{s: s, next: 2, enc: enc}
		letGo := func() {
			last := n.log.Durable()
			n.write(1) // the newest segment stays
			s.progress.addSegment(span{1, last, 0})
			must(t, n.log.RemoveBefore(last+1))
		}
		cutter.segments = func() []wal.SegmentInfo {
			list := n.log.Segments()
			letGo()
			if !late {
				list = n.log.Segments()
			}
			return list
		}
		for range 5 {
			n.write(30)
			n.roll()
			if p, err := cutter.cut(); err != nil || p != nil && p.key.From <= s.ShippedLSN() {
				t.Fatalf("late %t: %v %v", late, p, err)
			}
		}
		must(t, cutter.reopen())
		must(t, n.log.Close())
	}
}
