package pitrverify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"originchain/lambdas/outcome"
	"originchain/shared/lease"
	"originchain/shared/object"
	"originchain/shared/restore"
	"originchain/shared/simdisk"
)

func recorded(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What is beyond the function's limits is handed over: it is not green, not recorded, and
// said.
func TestHandingOver(t *testing.T) {
	for name, c := range map[string]struct {
		verify Verify
		time   time.Duration
		want   string
	}{
		"scratch": {func(context.Context) (Result, error) { return Result{}, &restore.ScratchError{Limit: 7} }, time.Hour, "more than 7 bytes"},
		"time": {func(ctx context.Context) (Result, error) {
			<-ctx.Done()
			return Result{}, ctx.Err()
		}, time.Minute, "time is over"},
		"no time at all": {func(context.Context) (Result, error) { return Result{Full: true, OK: true}, nil }, endMargin, "are left"},
	} {
		synctest.Test(t, func(t *testing.T) {
			d, w := &document{}, &world{}
			v, _ := w.verifier(d)
			v.deps.Verify = Within(c.verify)
			ctx, cancel := context.WithTimeout(t.Context(), c.time)
			defer cancel()
			a, err := NewHandler(v, func(float64) {}).Handle(ctx, recorded(t, "schedule.json"))
			if err != nil || !a.HandedOver || !strings.Contains(a.Reason, c.want) || a.Run != nil {
				t.Errorf("%s: %+v, %v", name, a, err)
			}
			if r, err := v.Load(t.Context()); err != nil || r.Last != nil || r.Green != nil {
				t.Errorf("%s was recorded: %+v, %v", name, r, err)
			}
		})
	}
}

// A verification within the limits is recorded, and its age is a metric; one that is not
// green is an error, and no hand-over.
func TestTheFunction(t *testing.T) {
	d, w := &document{}, &world{result: Result{Full: true, OK: true, LSN: 9}}
	v, _ := w.verifier(d)
	v.deps.Verify = Within(v.deps.Verify)
	var out bytes.Buffer
	h := NewHandler(v, Publish(&out, "acme", func() time.Time { return time.UnixMilli(1_772_366_400_000) }))
	a, err := h.Handle(t.Context(), recorded(t, "schedule.json"))
	if err != nil || a.HandedOver || a.Run == nil || !a.Run.Green || a.Run.LSN != 9 {
		t.Fatalf("%+v, %v", a, err)
	}
	w.pass(time.Hour)
	if a, err = h.Handle(t.Context(), recorded(t, "age.json")); err != nil || a.AgeSeconds != 3600 || a.Run != nil {
		t.Errorf("%+v, %v", a, err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var emf struct {
		AWS struct {
			Timestamp         int64
			CloudWatchMetrics []struct {
				Namespace string
				Metrics   []struct{ Name string }
			}
		} `json:"_aws"`
		Instance string
		Age      float64 `json:"oc_pitr_last_verified_age_s"`
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &emf); err != nil || len(lines) != 2 || emf.Age != 3600 || emf.Instance != "acme" || emf.AWS.Timestamp == 0 ||
		emf.AWS.CloudWatchMetrics[0].Namespace != "OriginChain/acme" || emf.AWS.CloudWatchMetrics[0].Metrics[0].Name != "oc_pitr_last_verified_age_s" {
		t.Errorf("%s: %v", out.String(), err)
	}
	w.err = errors.New("broken")
	if a, err = h.Handle(t.Context(), recorded(t, "schedule.json")); err == nil || a.HandedOver {
		t.Errorf("%+v, %v", a, err)
	}
	for _, raw := range [][]byte{nil, []byte("{}"), []byte("[]"), recorded(t, "malformed.json")} {
		if _, err := h.Handle(t.Context(), raw); err == nil || outcome.Of(err) != outcome.Input {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

func TestARecordOfNothing(t *testing.T) {
	m := noLease{}
	if r, err := OfRecord(m, object.NewMemory("x"), simdisk.New(), "/scratch", 1<<30)(t.Context()); err == nil || r.Full {
		t.Errorf("%+v, %v", r, err)
	}
}

// noLease is a store without a record.
type noLease struct{ lease.Store }

func (noLease) Load(context.Context) (lease.Record, bool, error) { return lease.Record{}, false, nil }
