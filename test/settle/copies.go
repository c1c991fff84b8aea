package settle

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"originchain/shared/api"
)

// Copy is a node with what it has of an instance's log.
type Copy struct {
	Node string
	// Dir is its data directory, Standing what it says of its place in the log.
	Dir      string
	Standing func() (api.Replication, error)
}

// Same is what all copies must be when nothing is written any more, and each has more of the
// log than what it was given with a checkpoint.
func Same(t Test, writer Copy, others ...Copy) {
	t.Helper()
	SameDigests(t, writer, others...)
	for _, c := range others {
		sameSegments(t, writer, c)
	}
}

// SameDigests waits until every copy shows the writer's last frame, and compares the
// digests there.
func SameDigests(t Test, writer Copy, others ...Copy) {
	t.Helper()
	Eventually(t, "digests", func() error {
		want, err := writer.Standing()
		if err != nil {
			return err
		}
		if want.AppliedLSN != want.LSN || want.Role != "writer" {
			return fmt.Errorf("%s is %s and shows LSN %d of %d", writer.Node, want.Role, want.AppliedLSN, want.LSN)
		}
		for _, c := range others {
			got, err := c.Standing()
			if err != nil {
				return err
			}
			if got.AppliedLSN != want.AppliedLSN || got.DurableLSN != want.DurableLSN {
				return fmt.Errorf("%s shows LSN %d and has %d durable, %s %d and %d", c.Node, got.AppliedLSN, got.DurableLSN, writer.Node, want.AppliedLSN, want.DurableLSN)
			}
			if got.Digest != want.Digest || got.Epoch != want.Epoch {
				t.Fatalf("at LSN %d %s has the digest %s in epoch %d, %s has %s in epoch %d", want.AppliedLSN, writer.Node, want.Digest, want.Epoch, c.Node, got.Digest, got.Epoch)
			}
		}
		return nil
	})
}

// Segments are the names of the log files in a data directory, oldest first.
func Segments(t Test, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "log", "????????????????.log"))
	if err != nil {
		t.Fatalf("%v", err)
	}
	for i := range names {
		names[i] = filepath.Base(names[i])
	}
	slices.Sort(names)
	return names
}

// sameSegments compares every sealed segment that two copies have, byte for byte. The last
// one is open, and longer on disk than what is written.
func sameSegments(t Test, a, b Copy) {
	t.Helper()
	sealed := Segments(t, a.Dir)
	sealed = sealed[:max(0, len(sealed)-1)]
	compared := 0
	for _, name := range sealed {
		want, missing := os.ReadFile(filepath.Join(a.Dir, "log", name))
		got, err := os.ReadFile(filepath.Join(b.Dir, "log", name))
		if err = errors.Join(missing, err); errors.Is(err, os.ErrNotExist) {
			continue // trimmed meanwhile, or before its bootstrap
		} else if err != nil {
			t.Fatalf("%v", err)
		}
		if compared++; !bytes.Equal(got, want) {
			t.Errorf("the segment %s has %d bytes on %s and %d on %s, and they differ", name, len(want), a.Node, len(got), b.Node)
		}
	}
	if compared == 0 && len(sealed) > 0 {
		t.Errorf("no sealed segment of %s is on %s too: %v and %v", a.Node, b.Node, sealed, Segments(t, b.Dir))
	}
}
