// Package leasetest is the contract of a lease.Store as tests: every store passes
// Run, whatever it keeps its record in.
package leasetest

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"originchain/shared/lease"
	"originchain/shared/lsn"
)

// Instance is the instance of the records that Run stores.
const Instance = "01HZX3V9J8Q2W4E6R8T0Y2M4K6"

const (
	racers = 8
	// increments each racer makes; every one costs a durable write.
	increments = 25
)

// Run checks a store. open makes a place without a record and returns what opens
// handles to it; each handle is what another process would have, where the kind
// of store knows processes.
func Run(t *testing.T, open func(t *testing.T) (handle func() lease.Store)) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, handle func() lease.Store)
	}{
		{"nothing is there at first", nothingAtFirst},
		{"a record comes back as it was stored", roundTrip},
		{"the version that was expected decides", conflicts},
		{"a record that is not valid is not stored", invalid},
		{"what was handed over is not shared", unshared},
		{"a context that has ended writes nothing", ended},
		{"one of many wins each version", race},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

// First returns the first record of an instance: node a has taken epoch 1 and
// confirmed it, with b in the set.
func First(t testing.TB) lease.Record {
	t.Helper()
	r, err := lease.Record{}.Take(lease.Candidate{Instance: Instance, Node: "a", ReplicationAddress: "127.0.0.1:7001", URL: "http://127.0.0.1:8001"})
	if err != nil {
		t.Fatal(err)
	}
	r, err = r.Confirm(lease.Claim{Node: "a", Epoch: 1}, lsn.Pos{}, []string{"b"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func nothingAtFirst(t *testing.T, handle func() lease.Store) {
	s := handle()
	if r, ok, err := s.Load(t.Context()); ok || err != nil || r.Version != 0 {
		t.Fatalf("got %+v, %t, %v", r, ok, err)
	}
	wantConflict(t, s, 1, First(t), lease.ConflictError{Expected: 1})
	if _, ok, err := s.Load(t.Context()); ok || err != nil {
		t.Fatalf("a refused write left a record: %t, %v", ok, err)
	}
}

func roundTrip(t *testing.T, handle func() lease.Store) {
	want := First(t)
	want.Version = 77 // not the caller's to choose
	stored, err := handle().CompareAndSet(t.Context(), 0, want)
	if err != nil {
		t.Fatal(err)
	}
	want.Version = 1
	wantRecord(t, want, stored)
	wantStored(t, handle(), want)
	renewed, err := stored.Renew(lease.Claim{Node: "a", Epoch: 1}, 1<<63+1) // no float holds it
	if err != nil {
		t.Fatal(err)
	}
	want = renewed
	want.Version = 2
	if stored, err = handle().CompareAndSet(t.Context(), 1, renewed); err != nil {
		t.Fatal(err)
	}
	wantRecord(t, want, stored)
	wantStored(t, handle(), want)
}

func conflicts(t *testing.T, handle func() lease.Store) {
	s, other := handle(), handle()
	one := put(t, s, 0, First(t))
	next := one
	next.CommitLSN = 10
	wantConflict(t, other, 0, next, lease.ConflictError{Expected: 0, Found: one, Exists: true})
	wantConflict(t, other, 2, next, lease.ConflictError{Expected: 2, Found: one, Exists: true})
	two := put(t, other, 1, next)
	wantConflict(t, s, 1, next, lease.ConflictError{Expected: 1, Found: two, Exists: true})
	wantStored(t, s, two)
}

func invalid(t *testing.T, handle func() lease.Store) {
	s := handle()
	one := put(t, s, 0, First(t))
	bad := one
	bad.Holder = ""
	_, err := s.CompareAndSet(t.Context(), 1, bad)
	var conflict *lease.ConflictError
	var unknown *lease.OutcomeUnknownError
	if err == nil || errors.As(err, &conflict) || errors.As(err, &unknown) {
		t.Fatalf("a record without holder: got %v", err)
	}
	wantStored(t, s, one)
}

func unshared(t *testing.T, handle func() lease.Store) {
	s := handle()
	want := First(t)
	want.Version = 1
	given := First(t)
	stored := put(t, s, 0, given)
	given.InSync[0], given.Line[0].Parent = "x", 9
	stored.InSync[0], stored.Line[0].Parent = "x", 9
	loaded, _, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantRecord(t, want, loaded)
	loaded.InSync[0], loaded.Line[0].Parent = "x", 9
	wantStored(t, s, want)
}

func ended(t *testing.T, handle func() lease.Store) {
	s := handle()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.CompareAndSet(ctx, 0, First(t)); !errors.Is(err, context.Canceled) {
		t.Fatalf("compare-and-set: got %v", err)
	}
	if _, _, err := s.Load(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("load: got %v", err)
	}
	if _, ok, err := s.Load(t.Context()); ok || err != nil {
		t.Fatalf("it was written: %t, %v", ok, err)
	}
}

// race: read, modify, compare-and-set by many at once loses no increment.
func race(t *testing.T, handle func() lease.Store) {
	put(t, handle(), 0, First(t))
	var group sync.WaitGroup
	for range racers {
		s := handle()
		group.Go(func() {
			if err := Increment(t.Context(), s, increments); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	r, _, err := handle().Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := lsn.LSN(racers * increments); r.CommitLSN != want || r.Version != 1+uint64(want) {
		t.Errorf("commit_lsn %d at version %d, want %d increments from version 1", r.CommitLSN, r.Version, want)
	}
}

// Increment raises the stored record's commit LSN by one, times times, and starts
// again whenever another was faster.
func Increment(ctx context.Context, s lease.Store, times int) error {
	for done := 0; done < times; {
		r, ok, err := s.Load(ctx)
		if err != nil {
			return err
		}
		if !ok {
			return errors.New("there is no record to increment")
		}
		next, err := r.Renew(lease.Claim{Node: r.Holder, Epoch: r.Epoch}, r.CommitLSN+1)
		if err != nil {
			return err
		}
		var lost *lease.ConflictError
		switch stored, err := s.CompareAndSet(ctx, r.Version, next); {
		case errors.As(err, &lost):
		case err != nil:
			return err
		case stored.Version != r.Version+1 || stored.CommitLSN != next.CommitLSN:
			return errors.New("the record returned is not the one that was stored")
		default:
			done++
		}
	}
	return nil
}

func put(t *testing.T, s lease.Store, expect uint64, next lease.Record) lease.Record {
	t.Helper()
	r, err := s.CompareAndSet(t.Context(), expect, next)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantConflict(t *testing.T, s lease.Store, expect uint64, next lease.Record, want lease.ConflictError) {
	t.Helper()
	_, err := s.CompareAndSet(t.Context(), expect, next)
	var got *lease.ConflictError
	if !errors.As(err, &got) {
		t.Fatalf("expecting version %d: got %v, want a conflict", expect, err)
	}
	if diff := cmp.Diff(want, *got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("expecting version %d (-want +got):\n%s", expect, diff)
	}
}

func wantStored(t *testing.T, s lease.Store, want lease.Record) {
	t.Helper()
	got, ok, err := s.Load(t.Context())
	if err != nil || !ok {
		t.Fatalf("load: %t, %v", ok, err)
	}
	wantRecord(t, want, got)
}

func wantRecord(t *testing.T, want, got lease.Record) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("the record (-want +got):\n%s", diff)
	}
}
