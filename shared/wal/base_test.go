package wal

import (
	"errors"
	"testing"

	"originchain/shared/fault"
	"originchain/shared/lsn"
	"originchain/shared/simdisk"
)

// TestALogGoesOnBehindItsBase: without a segment it ends where the base says; the first
// segment begins behind and names it; another base is corruption.
func TestALogGoesOnBehindItsBase(t *testing.T) {
	disk := simdisk.New()
	base := Tail{Pos: lsn.Pos{Epoch: 7, LSN: 41}, Chain: lsn.Chain{1}, Digest: lsn.Digest{Lo: 2}, Timestamp: 3}
	o := testOptions(disk, "log")
	o.Base = base
	for range 2 { // an opening leaves nothing that vouches for frames that are in no file
		l, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		if l.Tail() != base || l.Durable() != 41 || l.FirstLSN() != 0 || len(l.Epochs()) != 0 {
			t.Fatalf("it ends at %+v, durable %d", l.Tail(), l.Durable())
		}
		if err := l.BeginEpoch(7); err == nil {
			t.Fatal("an epoch began that had been")
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.BeginEpoch(9); err != nil {
		t.Fatal(err)
	}
	crashed := disk.KillClone() // before the first frame: a follower's opening has no base
	if f, err := Open(testOptions(crashed, "log")); err != nil || f.Tail().Pos.LSN != 0 {
		t.Fatalf("without its base: %v", err)
	} else if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	e := Entry{LSN: 42, Timestamp: 4, Digest: base.Digest, Kind: 1, Body: []byte{0}}
	if err := errors.Join(l.Append([]Entry{e}), l.Sync()); err != nil {
		t.Fatal(err)
	}
	want := EpochStart{Epoch: 9, Parent: 7, First: 42, PrevChain: base.Chain}
	if got := l.Epochs(); len(got) != 1 || got[0] != want {
		t.Errorf("epochs %+v, want %+v", got, want)
	}
	end := l.Tail()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = Open(o); err != nil || l.Tail() != end {
		t.Fatalf("opened again: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	o.Base.Chain = lsn.Chain{9}
	if _, err := Open(o); !errors.As(err, new(*fault.Corruption)) {
		t.Errorf("behind another base: %v", err)
	}
}
