package wal

import (
	"errors"
	"strings"
	"testing"

	"originchain/shared/lsn"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestChainAtAndEpochs(t *testing.T) {
	o := testOptions(vfs.Default, t.TempDir())
	src := newSource(58)
	var chains []lsn.Chain
	var epochs []lsn.Epoch
	note := func(l *Log, g []Entry) {
		for _, e := range g {
			commit(t, l, []Entry{e})
			chains, epochs = append(chains, l.Tail().Chain), append(epochs, l.Tail().Pos.Epoch)
		}
	}
	for _, epoch := range []lsn.Epoch{2, 5, 6} {
		l := mustOpen(t, o)
		must(t, l.BeginEpoch(epoch))
		note(l, src.group(20, 300))
		must(t, l.Close())
	}
	l := mustOpen(t, o)
	hold := func(first lsn.LSN) {
		t.Helper()
		for n := first; n <= l.Durable(); n++ {
			chain, epoch, err := l.ChainAt(n)
			if err != nil || chain != chains[n-1] || epoch != epochs[n-1] {
				t.Fatalf("LSN %d: %s, %d, %v", n, chain, epoch, err)
			}
		}
	}
	hold(1)
	if chain, epoch, err := l.ChainAt(0); err != nil || chain != (lsn.Chain{}) || epoch != 0 {
		t.Fatalf("LSN 0: %s, %d, %v", chain, epoch, err)
	}
	want := []EpochStart{{2, 0, 1, lsn.Chain{}}, {5, 2, 21, chains[19]}, {6, 5, 41, chains[39]}}
	if got := l.Epochs(); len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Fatalf("epochs %+v", got)
	}
	must(t, l.BeginEpoch(9))
	must(t, l.Append(src.group(1, 10)))
	if _, _, err := l.ChainAt(61); err == nil || !strings.Contains(err.Error(), "is durable up to 60") {
		t.Errorf("the chain of a frame that is not durable: %v", err)
	}
	if got := l.Epochs(); len(got) != 3 {
		t.Errorf("an epoch without a durable frame is on the line: %+v", got)
	}
	must(t, l.RemoveBefore(30))
	first := l.FirstLSN()
	if first < 22 {
		t.Fatalf("begins at %d", first)
	}
	chains, epochs = append(chains, l.Tail().Chain), append(epochs, 9)
	must(t, l.Sync())
	hold(first)
	if chain, epoch, err := l.ChainAt(first - 1); err != nil || chain != chains[first-2] || epoch != 0 {
		t.Fatalf("below the first: %s, %d, %v", chain, epoch, err)
	}
	if _, _, err := l.ChainAt(first - 2); !errors.Is(err, ErrRemoved) {
		t.Fatalf("further below: %v", err)
	}
	if got := l.Epochs(); got[0] != (EpochStart{5, 0, first, chains[first-2]}) || len(got) != 3 {
		t.Fatalf("epochs %+v", got)
	}
	must(t, l.Close())
}
