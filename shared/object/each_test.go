package object

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"testing"

	"originchain/shared/simdisk"
)

// counted counts how often a directory is read.
type counted struct {
	disk
	reads map[string]int
}

func (c counted) list(name string) ([]iofs.DirEntry, error) {
	c.reads[name]++
	return c.disk.list(name)
}

// TestFolderReadsEachDirectoryOnce, also where it holds many pages.
func TestFolderReadsEachDirectoryOnce(t *testing.T) {
	f := onSim(simdisk.New())
	const n = 2*MaxList + MaxList/2
	for i := range n {
		put(t, f, fmt.Sprintf("log/%d/%04d", i%2, i))
	}
	reads := map[string]int{}
	open := f.open
	f.open = func(path string, makes bool) (disk, error) {
		d, err := open(path, makes)
		return counted{d, reads}, err
	}
	met, last := 0, ""
	err := Each(t.Context(), f, "log/", "", func(info Info) error {
		if info.Key <= last {
			return fmt.Errorf("%s after %s", info.Key, last)
		}
		met, last = met+1, info.Key
		return nil
	})
	if err != nil || met != n {
		t.Fatalf("%d of %d objects: %v", met, n, err)
	}
	for dir, times := range reads {
		if times != 1 {
			t.Errorf("%s was read %d times", dir, times)
		}
	}
	if len(reads) != 3 {
		t.Errorf("read: %v", reads)
	}
}

// TestFolderEndsWithTheVisitor: its error comes back as it is, and a context ends it.
func TestFolderEndsWithTheVisitor(t *testing.T) {
	f := onSim(simdisk.New())
	put(t, f, "a/1")
	put(t, f, "a/2")
	enough, met := errors.New("enough"), 0
	stop := func(Info) error { met++; return enough }
	if err := Each(t.Context(), f, "", "", stop); err != enough || met != 1 {
		t.Errorf("%v after %d", err, met)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var e *Error
	if err := Each(ctx, f, "", "", stop); !errors.As(err, &e) || !errors.Is(err, context.Canceled) || met != 1 {
		t.Errorf("%v after %d", err, met)
	}
}

// TestFolderEndsAmidADirectory: one that holds very many objects is not gone through to
// its end for who has given up.
func TestFolderEndsAmidADirectory(t *testing.T) {
	f := onSim(simdisk.New())
	for i := range 10 {
		put(t, f, fmt.Sprintf("a/%d", i))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	met := 0
	err := Each(ctx, f, "", "", func(Info) error {
		if met++; met == 3 {
			cancel()
		}
		return nil
	})
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, context.Canceled) || met != 3 {
		t.Errorf("%v after %d", err, met)
	}
}
