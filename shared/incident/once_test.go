package incident

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"originchain/shared/alarms"
)

// once is a store whose clock a test moves.
func once(m *memory) (*Store, *time.Time) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return NewStore(m, Fixed{{ID: "hook", Webhook: "https://h.example", Secret: "0123456789abcdef", UpTo: alarms.Drift}}, func() time.Time { return at }, func() float64 { return 0 }), &at
}

func silent(id string) Opening {
	return Opening{ID: id, Severity: alarms.TenantDown, Title: "x", Text: id, Cause: Cause{Alarm: alarms.InstanceSilent, Instance: "acme"}}
}

// TestAnAlarmIsOneIncidentHoweverManyOpenIt: at the same moment, each under an id of its own.
func TestAnAlarmIsOneIncidentHoweverManyOpenIt(t *testing.T) {
	m := newMemory()
	s, _ := once(m)
	var (
		all sync.WaitGroup
		ids [16]string
	)
	for n := range ids {
		all.Go(func() {
			i, err := s.Open(t.Context(), silent(fmt.Sprintf("i-%02d", n)))
			if err != nil {
				t.Error(err)
				return
			}
			ids[n] = i.ID
		})
	}
	all.Wait()
	for _, id := range ids {
		if id != ids[0] || id == "" {
			t.Fatalf("%q", ids)
		}
	}
	if active, err := s.Active(t.Context()); err != nil || len(active) != 1 || active[0] != ids[0] {
		t.Errorf("%q, %v", active, err)
	}
	// Another instance's, and a failover, are others; and so is the next one of the same alarm.
	other, next := silent("j"), Opening{ID: "k", Severity: alarms.TenantDown, Title: "x", Text: "k", Cause: Cause{Failover: "R", Instance: "acme"}}
	other.Cause.Instance = "globex"
	for _, o := range []Opening{other, next} {
		if i, err := s.Open(t.Context(), o); err != nil || i.ID != o.ID {
			t.Errorf("%+v, %v", i, err)
		}
	}
	if _, err := s.Resolve(t.Context(), ids[0], "resolved", "over"); err != nil {
		t.Fatal(err)
	}
	if i, err := s.Open(t.Context(), silent("z")); err != nil || i.ID != "z" || i.Resolved != nil {
		t.Errorf("%+v, %v", i, err)
	}
}

// TestWhoOpensIsKilled: after each write that it makes, known or not. Whoever comes next has
// one incident, told of once.
func TestWhoOpensIsKilled(t *testing.T) {
	killed := errors.New("killed")
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			m := newMemory()
			s, now := once(m)
			n := 0
			die := func() error {
				if n++; n == at {
					return killed
				}
				return nil
			}
			if after {
				m.lost = die
			} else {
				m.fail = die
			}
			_, err := s.Open(t.Context(), silent("first"))
			m.fail, m.lost = nil, nil
			*now = now.Add(time.Second)
			i, err2 := s.Open(t.Context(), silent("second"))
			if err2 != nil || len(i.Updates) != 1 || len(i.Owed) != 1 {
				t.Fatalf("killed at write %d: %+v, %v", at, i, err2)
			}
			active, err2 := s.Active(t.Context())
			if err2 != nil || len(active) != 1 || active[0] != i.ID {
				t.Errorf("killed at write %d (after it: %v): %q and %q, %v", at, after, active, i.ID, err2)
			}
			if err == nil {
				break
			}
			if at > 9 {
				t.Fatal("it never comes to its end")
			}
		}
	}
}
