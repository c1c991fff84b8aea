package replica

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sirupsen/logrus"

	"originchain/shared/lsn"
)

// BenchmarkBootstrap copies a checkpoint over loopback to the same disk.
func BenchmarkBootstrap(b *testing.B) {
	const total = 512 << 20
	for _, fileBytes := range []int{2 << 20, 64 << 20} {
		b.Run(fmt.Sprintf("file=%dM", fileBytes>>20), func(b *testing.B) {
			from := b.TempDir()
			data := make([]byte, fileBytes)
			for i := range total / fileBytes {
				_, _ = rand.Read(data) // never fails
				if err := os.WriteFile(filepath.Join(from, fmt.Sprintf("%06d.sst", i)), data, 0o600); err != nil {
					b.Fatal(err)
				}
			}
			conn := serveCheckpoint(b, from)
			b.SetBytes(total)
			for b.Loop() {
				to := from + ".to"
				f := &Fetch{Conn: conn, FS: vfs.Default, Dir: to, Instance: make([]byte, 16), Node: "follower"}
				got, err := f.Run(b.Context())
				if err != nil || got.Bytes != total {
					b.Fatal(got, err)
				}
				b.StopTimer()
				if err := os.RemoveAll(to); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
		b.Run(fmt.Sprintf("plain/file=%dM", fileBytes>>20), func(b *testing.B) { benchPlain(b, fileBytes, total) })
	}
}

// benchPlain writes and syncs the same bytes into as many files.
func benchPlain(b *testing.B, fileBytes, total int) {
	data := make([]byte, 1<<20)
	_, _ = rand.Read(data) // never fails
	b.SetBytes(int64(total))
	for b.Loop() {
		dir := b.TempDir()
		for i := range total / fileBytes {
			f, err := os.Create(filepath.Join(dir, fmt.Sprintf("%06d.sst", i)))
			if err != nil {
				b.Fatal(err)
			}
			for range fileBytes / len(data) {
				if _, err := f.Write(data); err != nil {
					b.Fatal(err)
				}
			}
			if err := errors.Join(f.Sync(), f.Close()); err != nil {
				b.Fatal(err)
			}
		}
		b.StopTimer()
		if err := os.RemoveAll(dir); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// serveCheckpoint serves a directory as a leader's checkpoint.
func serveCheckpoint(tb testing.TB, dir string) *Conn {
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	hub := NewHub(HubConfig{}, HubDeps{Log: quiet}, 0)
	hub.Begin(0, nil)
	s := NewServer(ServerConfig{Node: "leader"}, ServerDeps{Log: quiet, Hub: hub, Checkpoint: func(context.Context) (*Checkpoint, error) {
		return &Checkpoint{FS: vfs.Default, Dir: dir, LSN: lsn.LSN(1), Remove: func() error { return nil }}, nil
	}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l, nil) }()
	conn, err := Dial(l.Addr().String(), nil, nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := conn.Close(); err != nil {
			tb.Error(err)
		}
		s.Stop()
		if err := <-ended; err != nil {
			tb.Error(err)
		}
	})
	return conn
}
