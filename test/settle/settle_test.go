package settle

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"originchain/shared/api"
)

// failed is a test that notes that it fails.
type failed struct {
	*testing.T
	said []string
}

func (f *failed) Errorf(format string, args ...any) {
	f.said = append(f.said, fmt.Sprintf(format, args...))
}

func (f *failed) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	panic(f)
}

// fails says what a check finds.
func fails(t *testing.T, check func(Test)) (said []string) {
	f := &failed{T: t}
	defer func() {
		if p := recover(); p != nil && p != any(f) {
			panic(p)
		}
		said = f.said
	}()
	check(f)
	return f.said
}

// copyOf has three segments, the last of which is open.
func copyOf(t *testing.T, node, second string, at api.Replication) Copy {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "log"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"0000000000000001.log": "a", "0000000000000005.log": second, "0000000000000009.log": node} {
		if err := os.WriteFile(filepath.Join(dir, "log", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Copy{Node: node, Dir: dir, Standing: func() (api.Replication, error) { return at, nil }}
}

func TestCopiesThatDifferAreFound(t *testing.T) {
	at := api.Replication{Role: "writer", LSN: 9, AppliedLSN: 9, DurableLSN: 9, Epoch: 2, Digest: "d"}
	writer := copyOf(t, "a", "b", at)
	other, behind, older := at, at, at
	other.Digest, behind.AppliedLSN, older.Epoch = "e", 8, 1
	gone := copyOf(t, "b", "b", at)
	if err := os.RemoveAll(filepath.Join(gone.Dir, "log")); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		copy Copy
		same bool
	}{
		"the same":        {copyOf(t, "b", "b", at), true},
		"another digest":  {copyOf(t, "b", "b", other), false},
		"another epoch":   {copyOf(t, "b", "b", older), false},
		"another segment": {copyOf(t, "b", "x", at), false},
		"nothing to hold": {gone, false},
		"never caught up": {copyOf(t, "b", "b", behind), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				said := fails(t, func(t Test) { Same(t, writer, c.copy) })
				if (len(said) == 0) != c.same {
					t.Errorf("%q", said)
				}
			})
		})
	}
}

// A wait ends when its test does, or when it has lasted for too long.
func TestAWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		never := func() error { return fmt.Errorf("not yet") }
		for _, c := range []struct {
			ctx   context.Context
			after time.Duration
		}{{ctx, time.Second}, {t.Context(), Within + Every}} {
			began := time.Now()
			if err := Becomes(c.ctx, never); err == nil || time.Since(began) < c.after-Every || time.Since(began) > c.after {
				t.Errorf("after %s: %v", time.Since(began), err)
			}
		}
	})
}
