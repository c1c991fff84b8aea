package writer

import (
	"context"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"originchain/shared/simdisk"
)

// TestABatchIsResumedBehindWhatIsOnItsWay: the first request ends while its chunk
// waits for the disk, and comes again at once.
func TestABatchIsResumedBehindWhatIsOnItsWay(t *testing.T) {
	disk := simdisk.New()
	n := open(t, disk)
	n.tenant, n.token = n.newTenant(`{}`)
	n.register(ordersManifest)
	ctx, leave := context.WithCancel(context.Background())
	stalled, gate := make(chan struct{}), make(chan struct{})
	first, second := make(chan *answer, 1), make(chan *answer, 1)
	disk.OnCall(func(_ int, c simdisk.Call, _ func() *simdisk.Disk) {
		if stalled != nil && c.Op == simdisk.OpSync && strings.HasPrefix(c.Path, "/data/log/") {
			close(stalled)
			stalled = nil
			<-gate
		}
	})
	send := func(ctx context.Context) *answer {
		return n.do(ctx, n.token, "POST", "/v1/tenants/"+n.tenant+"/rows/shop.orders/_batch", strings.NewReader(`[{"id":"1"},{"id":"2"}]`), idem, "k")
	}
	wait := stalled
	go func() { first <- send(ctx) }()
	<-wait
	leave()
	go func() { second <- send(context.Background()) }()
	e := n.w.engine.Load()
	// A repetition that does not wait for the first puts a second frame behind it.
	for before, i := e.PendingBytes(), 0; i < 100_000 && e.PendingBytes() == before; i++ {
		runtime.Gosched()
	}
	close(gate)
	(<-second).want(200).counts(2, 0)
	<-first
}

// TestReadyWithoutAnEngine: a node that had served, and has its directory closed,
// is not ready, and says so.
func TestReadyWithoutAnEngine(t *testing.T) {
	n := start(t)
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	n.w.OpsHandler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/ready", nil))
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), checkLog) {
		t.Errorf("/ready of a node that is closed: %d %s", w.Code, w.Body)
	}
}
