package cwmetrics

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"originchain/shared/aws/session"
	"originchain/test/awsfake"
)

func open(t *testing.T, f *awsfake.Fake) *Metrics {
	t.Helper()
	m, err := New(t.Context(), "OriginChain", session.Config{Region: awsfake.Region, Endpoint: f.URL, Credentials: awsfake.Credentials()})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func many(n, values int) (out []Datum) {
	for i := range n {
		d := Datum{Metric: fmt.Sprintf("m%d", i), Dimensions: map[string]string{"Instance": "orders", "Node": "orders-a"}, At: time.Now()}
		for j := range values {
			d.Values, d.Counts = append(d.Values, float64(j)), append(d.Counts, 2)
		}
		out = append(out, d)
	}
	return out
}

// sizes are how many data each request had.
func sizes(f *awsfake.Fake) (out []int) {
	for _, c := range f.CloudWatch.Calls("PutMetricData") {
		list, _ := c.Input["MetricData"].([]any)
		out = append(out, len(list))
	}
	return out
}

func TestPut(t *testing.T) {
	f := awsfake.Start(t)
	m := open(t, f)
	at := time.Now().UTC().Truncate(time.Second)
	dims := map[string]string{"Instance": "orders", "Node": "orders-a"}
	n, err := m.Put(t.Context(), []Datum{
		{Metric: "/health", Dimensions: dims, At: at, Values: []float64{200}},
		{Metric: "oc_requests_seconds", Dimensions: dims, At: at, Values: []float64{0.5, 1}, Counts: []float64{90, 10}},
	})
	if n != 2 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	want := []awsfake.Datum{
		{Namespace: "OriginChain", Name: "/health", Dimensions: dims, Value: 200, Count: 1, At: at},
		{Namespace: "OriginChain", Name: "oc_requests_seconds", Dimensions: dims, Value: 0.5, Count: 90, At: at},
		{Namespace: "OriginChain", Name: "oc_requests_seconds", Dimensions: dims, Value: 1, Count: 10, At: at},
	}
	if diff := cmp.Diff(want, f.CloudWatch.Data()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, c := range f.CloudWatch.Calls("PutMetricData") {
		for _, d := range c.Input["MetricData"].([]any) {
			if got := fmt.Sprintf("%+v", d); !strings.Contains(got, "StorageResolution:1") {
				t.Errorf("its alarms have periods of 10 s: %s", got)
			}
		}
	}
}

// TestRequestsAreBounded: by how many, and by how large they are.
func TestRequestsAreBounded(t *testing.T) {
	f := awsfake.Start(t)
	m := open(t, f)
	if n, err := m.Put(t.Context(), many(2500, 1)); n != 2500 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	if diff := cmp.Diff([]int{1000, 1000, 500}, sizes(f)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	large := awsfake.Start(t)
	data := many(400, MaxValues)
	if n, err := open(t, large).Put(t.Context(), data); n != 400 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	for _, n := range sizes(large) {
		// A value has 9 bytes in CBOR, and so has its count.
		if bytes := n * MaxValues * 18; bytes > 1_000_000 {
			t.Errorf("a request of %d data has over %d bytes", n, bytes)
		}
	}
	if len(sizes(large)) < 2 || len(large.CloudWatch.Data()) != 400*MaxValues {
		t.Errorf("requests of %v", sizes(large))
	}
}

func TestWhatFails(t *testing.T) {
	f := awsfake.Start(t)
	m := open(t, f)
	var refused *RefusedError
	// Throttled and lost requests are sent again.
	f.CloudWatch.Next("PutMetricData", awsfake.Throttle(), awsfake.Lost())
	if n, err := m.Put(t.Context(), many(1, 1)); n != 1 || err != nil {
		t.Errorf("at the third attempt: %d, %v", n, err)
	}
	// One that is away for longer has taken what it has taken.
	f.CloudWatch.Next("PutMetricData", append([]awsfake.Behaviour{awsfake.Well()}, awsfake.Times(session.DefaultAttempts, awsfake.Throttle())...)...)
	if n, err := m.Put(t.Context(), many(1500, 1)); n != 1000 || err == nil || errors.As(err, &refused) {
		t.Errorf("the second request was throttled: %d, %v", n, err)
	}
	f.CloudWatch.Next("PutMetricData", awsfake.Fail("AccessDenied", "the role may not"))
	if n, err := m.Put(t.Context(), many(1, 1)); n != 0 || err == nil || errors.As(err, &refused) {
		t.Errorf("a right can be given: %d, %v", n, err)
	}
	// What can never be put is done with, and what comes after it is put.
	bad := many(1001, 1)
	bad[3].Values[0] = math.NaN()
	before := len(f.CloudWatch.Data())
	if n, err := m.Put(t.Context(), bad); n != 1001 || !errors.As(err, &refused) || len(f.CloudWatch.Data())-before != 1000 {
		t.Errorf("no number: %d, %v; %d are there, want the 1000 others", n, err, len(f.CloudWatch.Data())-before)
	}
	for _, d := range []Datum{{Metric: "x", At: time.Now()}, {Metric: "x", At: time.Now(), Values: []float64{1, 2}, Counts: []float64{1}}, many(1, MaxValues+1)[0]} {
		if n, err := m.Put(t.Context(), []Datum{d}); n != 1 || !errors.As(err, &refused) {
			t.Errorf("%d values: %d, %v", len(d.Values), n, err)
		}
	}
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	if _, err := New(t.Context(), "x", session.Config{}); !errors.Is(err, session.ErrRegion) {
		t.Errorf("no region: %v", err)
	}
}

// TestOneThatIsRefusedIsAlone: the service refuses whole requests, and only what it has
// refused them for is lost. What fails in the middle of the search waits, in its order.
func TestOneThatIsRefusedIsAlone(t *testing.T) {
	f := awsfake.Start(t)
	m := open(t, f)
	no := func() awsfake.Behaviour { return awsfake.Fail("InvalidParameterValue", "the timestamp is too old") }
	// The second of four: all, the first half, its first (well), its second, the other half.
	f.CloudWatch.Next("PutMetricData", no(), no(), awsfake.Well(), no())
	var refused *RefusedError
	n, err := m.Put(t.Context(), many(4, 1))
	var names []string
	for _, d := range f.CloudWatch.Data() {
		names = append(names, d.Name)
	}
	if diff := cmp.Diff([]string{"m0", "m2", "m3"}, names); n != 4 || !errors.As(err, &refused) || diff != "" {
		t.Errorf("%d, %v (-want +got):\n%s", n, err, diff)
	}
	away := awsfake.Start(t)
	away.CloudWatch.Next("PutMetricData", append([]awsfake.Behaviour{no(), awsfake.Well()}, awsfake.Times(session.DefaultAttempts, awsfake.Throttle())...)...)
	if n, err := open(t, away).Put(t.Context(), many(4, 1)); n != 2 || err == nil || errors.As(err, &refused) {
		t.Errorf("the second half was throttled: %d, %v", n, err)
	}
}
