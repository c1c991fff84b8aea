package rows_test

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"originchain/shared/fault"
	"originchain/shared/rows"
	"originchain/shared/table"
)

func (w *bench) store1(key string) {
	w.t.Helper()
	if err := w.commit(func(b *rows.Builder) error {
		return b.StoreAnswer(tenant, key, rows.Answer{Request: sha256.Sum256([]byte(key)), Status: 200, Done: true, Body: []byte("answer to " + key)})
	}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *bench) answers() uint64 {
	w.t.Helper()
	c, err := table.ReadCounters(w.store, table.CounterKey(tenant, table.IdemTable, 0))
	if err != nil {
		w.t.Fatal(err)
	}
	return c.Entries
}

func TestStoredAnswerComesBackOnlyForTheSameRequest(t *testing.T) {
	w := newBench(t, 1)
	w.store1("k")
	a, err := rows.StoredAnswer(w.store, tenant, "k", sha256.Sum256([]byte("k")))
	if err != nil || a == nil || string(a.Body) != "answer to k" || a.LSN != 1 || !a.Done || a.Status != 200 {
		t.Fatalf("got %+v, %v", a, err)
	}
	if _, err := rows.StoredAnswer(w.store, tenant, "k", sha256.Sum256([]byte("other"))); fault.CodeOf(err) != fault.Conflict {
		t.Fatalf("another body under the key: %v", err)
	}
	if a, err := rows.StoredAnswer(w.store, tenant, "new", [32]byte{}); a != nil || err != nil {
		t.Fatalf("a new key: %v %v", a, err)
	}
	w.check()
}

func TestAnswersExpireByFrameStamps(t *testing.T) {
	w := newBench(t, 1)
	for i := range 20 {
		w.store1(fmt.Sprint("old", i))
	}
	w.stamp += (23 * time.Hour).Microseconds()
	w.store1("young")
	if got := w.answers(); got != 21 {
		t.Fatalf("%d answers before any is a day old, want 21", got)
	}
	w.stamp += (2 * time.Hour).Microseconds()
	for i := range 10 {
		w.store1(fmt.Sprint("new", i))
	}
	if got := w.answers(); got != 11 {
		t.Fatalf("%d answers, want the 11 that are younger than a day", got)
	}
	w.check()
}

func TestTenThousandAnswersAreKeptAndNoneBeforeTenMinutes(t *testing.T) {
	w := newBench(t, 1)
	fill := func(from, to int) {
		if err := w.commit(func(b *rows.Builder) error {
			for i := from; i < to; i++ {
				if err := b.StoreAnswer(tenant, fmt.Sprint(i), rows.Answer{Done: true}); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	fill(0, 10_050)
	if got := w.answers(); got != 10_050 {
		t.Fatalf("%d answers, want all 10,050: none is ten minutes old", got)
	}
	w.stamp += (11 * time.Minute).Microseconds()
	for i := range 60 {
		w.store1(fmt.Sprint("late", i))
	}
	if got := w.answers(); got != 10_000 {
		t.Fatalf("%d answers, want the 10,000 newest", got)
	}
	w.check()
}
