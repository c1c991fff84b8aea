package plane

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/lambdas/local/layout"
	"originchain/lambdas/local/supervise"
	"originchain/shared/failover"
)

func quiet() logrus.FieldLogger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log
}

// willing is a supervisor that does whatever it is asked.
type willing struct {
	supervise.Local
	asked int
}

func (w *willing) did() error { w.asked++; return nil }

func (w *willing) Process(context.Context, failover.Node) (failover.Process, error) {
	return failover.Process{}, w.did()
}

func (w *willing) Stop(context.Context, failover.Node) (failover.Process, error) {
	return failover.Process{}, w.did()
}
func (w *willing) Start(context.Context, failover.Node) error   { return w.did() }
func (w *willing) Restart(context.Context, failover.Node) error { return w.did() }
func (w *willing) Unit(context.Context, failover.Node) (string, []byte, error) {
	return "", nil, w.did()
}
func (w *willing) Rewrite(context.Context, failover.Node, []byte) error { return w.did() }
func (w *willing) Kill(context.Context, failover.Node, syscall.Signal) error {
	return w.did()
}

// Of a machine that is cut off nothing is heard, whatever is asked, and nothing is done
// there; the others are as before.
func TestAMachineThatIsCutOff(t *testing.T) {
	a, b := failover.Node{ID: "a", Machine: "ma", URL: "http://a:1"}, failover.Node{ID: "b", Machine: "mb", URL: "http://b:1"}
	calls := map[string]func(context.Context, reached, failover.Node) error{
		"process": func(ctx context.Context, r reached, n failover.Node) error { _, err := r.Process(ctx, n); return err },
		"stop":    func(ctx context.Context, r reached, n failover.Node) error { _, err := r.Stop(ctx, n); return err },
		"start":   func(ctx context.Context, r reached, n failover.Node) error { return r.Start(ctx, n) },
		"restart": func(ctx context.Context, r reached, n failover.Node) error { return r.Restart(ctx, n) },
		"unit":    func(ctx context.Context, r reached, n failover.Node) error { _, _, err := r.Unit(ctx, n); return err },
		"rewrite": func(ctx context.Context, r reached, n failover.Node) error { return r.Rewrite(ctx, n, nil) },
		"kill":    func(ctx context.Context, r reached, n failover.Node) error { return r.Kill(ctx, n, syscall.SIGKILL) },
	}
	for name, do := range calls {
		synctest.Test(t, func(t *testing.T) {
			w, local := newWays([]failover.Node{a, b}, quiet()), new(willing)
			r := reached{local, w}
			if err := w.cut(a); err != nil || !w.isCut("ma") || w.isCut("mb") {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			var gone *UnreachableError
			if err := do(ctx, r, a); !errors.As(err, &gone) || !errors.Is(err, context.DeadlineExceeded) || gone.Node != "a" || local.asked > 0 {
				t.Errorf("%s: %v, asked %d times", name, err, local.asked)
			}
			if err := do(t.Context(), r, b); err != nil || local.asked != 1 {
				t.Errorf("%s of another: %v, asked %d times", name, err, local.asked)
			}
			w.heal(a)
			if err := do(t.Context(), r, a); err != nil || local.asked != 2 || w.isCut("ma") {
				t.Errorf("%s of one that is reached again: %v, asked %d times", name, err, local.asked)
			}
		})
	}
}

// A partition that nobody heals is healed; one heals once, and none begins at the end.
func TestAPartitionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := failover.Node{ID: "a", Machine: "a", URL: "http://a:1"}
		w := newWays([]failover.Node{n}, quiet())
		if err := w.cut(n); err != nil {
			t.Fatal(err)
		}
		if err := w.cut(n); err == nil {
			t.Error("cut twice")
		}
		w.heal(n)
		w.heal(n)
		if err := w.cut(n); err != nil || !w.isCut("a") {
			t.Fatal(err)
		}
		time.Sleep(cutAtMost - 1) // of the bubble's clock
		synctest.Wait()
		if !w.isCut("a") {
			t.Error("it was healed early")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if w.isCut("a") {
			t.Error("nobody healed it")
		}
		if err := w.cut(n); err != nil {
			t.Fatal(err)
		}
		w.close()
		if w.isCut("a") || w.cut(n) == nil {
			t.Error("cut at the end")
		}
	})
}

// Nobody is connected to whoever listens at the address of a node that does not run: what
// passes carries tokens. Of one that is cut off it is not known.
func TestWhoDoesNotRunIsNotReached(t *testing.T) {
	stranger := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(stranger.Close)
	n := failover.Node{ID: "a", Machine: "a", URL: stranger.URL}
	w := newWays([]failover.Node{n}, quiet())
	running := false
	w.process = func(_ context.Context, asked failover.Node) (int, bool) { return os.Getpid(), running && asked == n }
	host := strings.TrimPrefix(stranger.URL, "http://")
	if c, err := w.dial(t.Context(), "tcp", host); !errors.Is(err, syscall.ECONNREFUSED) || c != nil {
		t.Errorf("a stranger is reached: %v", err)
	}
	if err := w.cut(n); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := w.dial(ctx, "tcp", host); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a node that is cut off: %v", err)
	}
	w.heal(n)
	running = true
	c, err := w.dial(t.Context(), "tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// The plane's own requests to a node go through its gate; those to anybody else do not.
func TestRequestsPassTheGate(t *testing.T) {
	node := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(node.Close)
	other := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(other.Close)
	n := failover.Node{ID: "a", Machine: "a", URL: node.URL}
	w := newWays([]failover.Node{n}, quiet())
	client := &http.Client{Transport: &http.Transport{DialContext: w.dial, DisableKeepAlives: true}}
	get := func(ctx context.Context, url string) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	}
	if err := get(t.Context(), node.URL); err != nil {
		t.Fatal(err)
	}
	if err := w.cut(n); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := get(t.Context(), other.URL); err != nil {
		t.Error(err)
	}
	if err := get(ctx, node.URL); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a node that is cut off: %v", err)
	}
	w.heal(n)
	if err := get(t.Context(), node.URL); err != nil {
		t.Error(err)
	}
	// An instance that has no gates cannot be cut.
	p := &Plane{in: &layout.Instance{}, ways: w}
	if err := p.partition(n); err == nil || !strings.Contains(err.Error(), "without gates") || w.isCut("a") {
		t.Errorf("%v", err)
	}
	if got := p.afterDeath("a", "a", supervise.Exit{PID: 1}); got != supervise.RestartLater {
		t.Errorf("%s", got)
	}
	// Of one that is cut off nobody can know that it has ended.
	p.holds.know("a", true)
	if got := p.afterDeath("a", "a", supervise.Exit{PID: 1}); got != supervise.Hold {
		t.Errorf("%s", got)
	}
	if err := w.cut(n); err != nil {
		t.Fatal(err)
	}
	if got := p.afterDeath("a", "a", supervise.Exit{PID: 1}); got != supervise.RestartLater {
		t.Errorf("%s of a machine that nobody reaches", got)
	}
}
