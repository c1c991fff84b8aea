package lease

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// twoClocks stand where a test puts them.
type twoClocks struct {
	mono time.Time
	boot time.Duration
}

func (c *twoClocks) Now() time.Time           { return c.mono }
func (c *twoClocks) SinceBoot() time.Duration { return c.boot }

func (c *twoClocks) pass(mono, boot time.Duration) {
	c.mono, c.boot = c.mono.Add(mono), c.boot+boot
}

func TestATermCountsFromTheSendOnTheStricterClock(t *testing.T) {
	for name, step := range map[string][2]time.Duration{
		"both":      {SelfFence, SelfFence},
		"monotonic": {SelfFence, 0},
		"suspended": {0, SelfFence},
	} {
		c := &twoClocks{mono: time.Now()}
		term := NewTerm(c)
		if term.Held() || term.Remaining() > 0 {
			t.Fatal("held without a renewal")
		}
		sent := term.Sending()
		c.pass(3*time.Second, 3*time.Second) // the store took its time
		term.Renewed(sent)
		if left := term.Remaining(); left != SelfFence-3*time.Second || !term.Held() {
			t.Errorf("%s: %s left", name, left)
		}
		term.Renewed(term.Sending())
		// An answer that was under way for longer than a later one takes nothing away.
		term.Renewed(sent)
		if left := term.Remaining(); left != SelfFence {
			t.Errorf("%s: %s left", name, left)
		}
		c.pass(step[0], step[1])
		if term.Held() || term.Age() != SelfFence {
			t.Errorf("%s: held %s after the send", name, term.Age())
		}
	}
}

func TestWhoWaitsHearsOfARenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		term := NewTerm(&twoClocks{mono: time.Now()})
		heard := make(chan bool, 1)
		renewals := term.Renewals()
		go func() { <-renewals; heard <- term.Held() }()
		synctest.Wait()
		if len(heard) != 0 {
			t.Fatal("heard of a renewal that was not")
		}
		term.Renewed(term.Sending())
		if !<-heard {
			t.Fatal("not held after the renewal")
		}
	})
}

func TestTheMachinesBootClockRuns(t *testing.T) {
	if a, b := (MachineClock{}).SinceBoot(), (MachineClock{}).SinceBoot(); a <= 0 || b < a {
		t.Fatalf("%s, then %s", a, b)
	}
}

func TestAPlaceIsOneDirectory(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	for _, d := range []string{a, b} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	of := func(path string) string {
		p, err := PlaceOf(path)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	pa := of(a)
	if pa == "" || pa != of(a) || pa == of(b) {
		t.Fatalf("%q %q", pa, of(b))
	}
	if err := os.Rename(a, filepath.Join(dir, "c")); err != nil {
		t.Fatal(err)
	}
	if of(filepath.Join(dir, "c")) != pa {
		t.Error("the same directory under another name is another place")
	}
	if _, err := PlaceOf(a); err == nil {
		t.Error("a place for nothing")
	}
	r := Record{Holder: "n", Place: pa}
	if !r.SamePlace("n", pa) || r.SamePlace("m", pa) || r.SamePlace("n", of(b)) || (Record{Holder: "n"}).SamePlace("n", "") {
		t.Error("whose lease need not be waited for")
	}
}
