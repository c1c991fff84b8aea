package durable

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"originchain/shared/simdisk"
)

const (
	dir  = "/srv/documents"
	name = "one"
)

var errFailed = errors.New("failed before")

func openFolder(t *testing.T, d *simdisk.Disk) *Folder {
	t.Helper()
	f, err := OpenFolder(d, Layout{Dir: dir, Lock: "lock", Temporary: "tmp", Failed: errFailed})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// shown is what a process reads, and may tell others.
func shown(t *testing.T, d *simdisk.Disk) (text string) {
	t.Helper()
	f := openFolder(t, d)
	err := f.Alone(t.Context(), func() error {
		b, _, err := f.Read(name, 100)
		text = string(b)
		return errors.Join(err, f.Settle(name, b))
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func replace(ctx context.Context, f *Folder, text string) error {
	return f.Alone(ctx, func() error { return f.Replace(name, []byte(text)) })
}

// TestAReplacementIsOneStep: whichever call fails, the error says whether the file may be
// the new one; and what was shown once is there after a crash.
func TestAReplacementIsOneStep(t *testing.T) {
	probe := simdisk.New()
	f := openFolder(t, probe)
	begin := 0
	for _, text := range []string{"old", "new"} {
		begin = probe.CallCount()
		if err := replace(t.Context(), f, text); err != nil {
			t.Fatal(err)
		}
	}
	calls := probe.CallCount() - begin
	unknown, fsyncs := 0, 0
	for n := 1; n <= calls; n++ {
		for seed := range uint64(12) {
			d := simdisk.New()
			f := openFolder(t, d)
			if err := replace(t.Context(), f, "old"); err != nil {
				t.Fatal(err)
			}
			d.FailAt(d.CallCount()+n, syscall.EIO)
			err := replace(t.Context(), f, "new")
			if d.Armed() != 0 {
				t.Fatalf("call %d: the fault never fired", n)
			}
			d.Heal()
			failed := (*Error)(nil)
			if err != nil && errors.As(err, &failed) && failed.Unknown() {
				unknown++
			}
			text := shown(t, d)
			if err == nil && text != "new" || err != nil && (failed == nil || !failed.Unknown()) && text != "old" {
				t.Fatalf("call %d: %q stands there, and the error was %v", n, text, err)
			}
			if failed != nil && failed.Fsync() {
				fsyncs++
				if err := replace(t.Context(), f, "newer"); !errors.Is(err, errFailed) || !errors.Is(err, syscall.EIO) {
					t.Fatalf("call %d: an fsync failed, and then: %v", n, err)
				}
			}
			if after := shown(t, d.CrashClone(rand.New(rand.NewPCG(seed, uint64(n))), simdisk.AnyNames)); after != text {
				t.Fatalf("call %d, seed %d: %q was shown and %q is there after a crash", n, seed, text, after)
			}
		}
	}
	if calls < 5 || unknown == 0 || fsyncs == 0 {
		t.Errorf("of %d calls %d outcomes were unknown, and %d fsyncs failed", calls, unknown, fsyncs)
	}
}

// TestAFullDiskIsNotFilledFurther: a temporary of no use is taken away.
func TestAFullDiskIsNotFilledFurther(t *testing.T) {
	d := simdisk.New()
	f := openFolder(t, d)
	d.SetBudget(d.Used())
	if err := replace(t.Context(), f, "a text that does not fit"); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	names, err := f.Names()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"lock"}, names); diff != "" {
		t.Error(diff)
	}
}

func TestASecretIsItsOwnersAlone(t *testing.T) {
	at := t.TempDir()
	path := filepath.Join(at, "token")
	for _, text := range []string{"one", "two"} {
		if err := Secret(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil || string(b) != text {
			t.Fatalf("%q, %v", b, err)
		}
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if err := os.Mkdir(filepath.Join(at, "taken"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Secret(filepath.Join(at, "taken"), []byte("x")); err == nil {
		t.Error("a directory was replaced by a secret")
	}
	names, err := os.ReadDir(at)
	if err != nil || len(names) != 2 {
		t.Errorf("a failure left something: %v, %v", names, err)
	}
}
