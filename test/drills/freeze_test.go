package drills

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"originchain/scripts/call"
	"originchain/shared/api"
	"originchain/test/settle"
)

// A writer that is frozen for a second is nobody's reason to promote another.
func TestFrozenForAMoment(t *testing.T) {
	t.Parallel()
	i := newInstance(t, 1)
	l := i.begin()
	was, epoch := i.writer(), i.record().Epoch
	was.signal(syscall.SIGSTOP)
	settle.Pause(t.Context(), time.Second)
	was.signal(syscall.SIGCONT)
	l.flow()
	if now := i.record(); now.Epoch != epoch || now.Holder != was.ID {
		t.Errorf("%s holds epoch %d after a second, and %s held %d", now.Holder, now.Epoch, was.ID, epoch)
	}
	l.settle()
}

// A writer that is frozen for long is replaced; its supervisor ends it.
func TestFrozenWriter(t *testing.T) {
	t.Parallel()
	for _, d := range []time.Duration{5 * time.Second, 20 * time.Second, 60 * time.Second} {
		long(t, d.String(), func(t *testing.T) {
			t.Parallel()
			i := newInstance(t, 1)
			l := i.begin()
			was, epoch, at := i.writer(), uint64(i.record().Epoch), time.Now()
			pid := i.pid(was)
			i.must(syscall.Kill(pid, syscall.SIGSTOP))
			settle.Pause(t.Context(), d)
			// A process that was ended meanwhile is gone, which is as well.
			if err := syscall.Kill(pid, syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) {
				t.Fatal(err)
			}
			if d > 10*time.Second {
				l.succeeded("SIGSTOP "+d.String(), at, epoch)
			}
			l.flow()
			l.settle()
		})
	}
}

// A writer that nobody can end wakes up after another has taken its place. All it may still
// deliver are answers that were decided before its deadline, and what they acknowledge is
// on its successor's line; to anything else it says 503. Then it follows, in its process.
func TestZombieWakesUp(t *testing.T) {
	t.Parallel()
	zombie := func(asleep time.Duration) func(*testing.T) {
		return func(t *testing.T) {
			t.Parallel()
			i, f := newFar(t)
			z := &zombieDrill{i: i, f: f, was: i.writer(), asleep: asleep}
			z.run()
		}
	}
	t.Run("until another writes", zombie(0))
	for _, d := range []time.Duration{time.Second, 5 * time.Second, 20 * time.Second, 60 * time.Second} {
		long(t, d.String(), zombie(d))
	}
}

type zombieDrill struct {
	i      *instance
	f      *far
	was    *node
	asleep time.Duration // 0: until another writes

	mu      sync.Mutex
	answers []answer
	asking  sync.WaitGroup
}

// answer is what the zombie said to a request that was sent to it alone.
type answer struct {
	pk   string
	late bool // sent when another node had acknowledged a write
	read bool
	resp *call.Response
}

// probesEach is how many requests of a kind wait for it when it wakes up.
const probesEach = 8

// ask sends a request to the zombie, whose answer is looked at in the end.
func (z *zombieDrill) ask(pk string, late, read bool) {
	z.asking.Go(func() {
		// A connection of its own: one that the zombie had closed would lose the request.
		own := &http.Client{Timeout: settle.Within, Transport: &http.Transport{DisableKeepAlives: true}}
		c := &call.Client{URL: z.was.URL, Token: z.i.token, HTTP: own}
		var resp *call.Response
		var err error
		if read {
			resp, err = c.Do(context.Background(), call.Request{Method: http.MethodGet, Path: z.i.row(registersID, pk)})
		} else {
			resp, err = z.i.put(context.Background(), c, rowsID, pk, pk, "")
		}
		if err != nil {
			return // a connection that ends acknowledges nothing
		}
		z.mu.Lock()
		defer z.mu.Unlock()
		z.answers = append(z.answers, answer{pk, late, read, resp})
	})
}

// stream sends writes to the node until ctx ends, so that some are under way when it freezes.
func (z *zombieDrill) stream(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		z.ask(fmt.Sprintf("z-early-%d", n), false, false)
		settle.Pause(ctx, 2*time.Millisecond)
	}
}

func (z *zombieDrill) run() {
	t, i := z.i.t, z.i
	l := i.begin()
	epoch := uint64(i.record().Epoch)
	server := z.f.servers[z.was.ID]
	streaming, stop := context.WithCancel(t.Context())
	var streamed sync.WaitGroup
	streamed.Go(func() { z.stream(streaming) })
	settle.Pause(t.Context(), 100*time.Millisecond)
	at := time.Now()
	i.must(server.Freeze())
	settle.Pause(t.Context(), 50*time.Millisecond)
	stop()
	streamed.Wait()
	replaced := z.asleep == 0 || z.asleep > 15*time.Second
	if replaced {
		l.succeeded("SIGSTOP, no machine reached", at, epoch)
		for n := range probesEach {
			z.ask(fmt.Sprintf("z-late-%d", n), true, false)
			z.ask(fmt.Sprintf("r%d", n), true, true)
		}
	}
	settle.Pause(t.Context(), max(time.Until(at.Add(z.asleep)), 100*time.Millisecond)) // the requests are in its sockets
	pid := server.PID()
	i.must(server.Thaw())
	z.asking.Wait()
	l.flow()
	if now := i.record(); z.asleep == time.Second && uint64(now.Epoch) != epoch {
		t.Errorf("%s holds epoch %d after a second of sleep of %s", now.Holder, now.Epoch, z.was.ID)
	}
	l.settle()
	select {
	case <-server.Exited():
		t.Errorf("the process of %s, %d, has ended", z.was.ID, pid)
	default:
	}
	z.judge(epoch, replaced)
}

// judge holds each answer against the successor's line.
func (z *zombieDrill) judge(epoch uint64, replaced bool) {
	t := z.i.t
	rec := z.i.record()
	counts := map[string]int{}
	for _, a := range z.answers {
		kind := fmt.Sprintf("late %t, read %t: %d", a.late, a.read, a.resp.Status)
		counts[kind]++
		of, _ := strconv.ParseUint(a.resp.Header.Get(api.HeaderEpoch), 10, 64)
		switch {
		case a.resp.Status == http.StatusServiceUnavailable:
		case a.resp.Status == http.StatusNotFound && a.read, a.resp.Status == http.StatusOK && a.read:
			// As a follower of its successor it may answer; as the writer it was it may not.
			if of <= epoch {
				t.Errorf("a read that was sent when epoch %d was over is answered in epoch %d: %s", epoch, of, a.resp.Body)
			}
		case a.resp.Status != http.StatusOK || a.late:
			t.Errorf("%s, %s: %s", a.pk, kind, a.resp.Body)
		case strings.HasPrefix(a.pk, "z-early"):
			z.kept(a, rec.Holder)
		}
	}
	if replaced && counts["late true, read false: 503"] == 0 {
		t.Error("the zombie refused no write that was sent to it while it slept")
	}
	t.Logf("answers of the zombie: %v", counts)
}

// kept: an acknowledged write is what the successor has, at its LSN.
func (z *zombieDrill) kept(a answer, writer string) {
	z.i.t.Helper()
	got, err := z.i.named(writer).asTenant().Do(z.i.t.Context(), call.Request{Method: http.MethodGet, Path: z.i.row(rowsID, a.pk)})
	z.i.must(err)
	if version := strings.Trim(got.Header.Get("ETag"), `"`); got.Status != http.StatusOK || !strings.Contains(string(a.resp.Body), `"lsn":`+version+",") {
		z.i.t.Errorf("%s was acknowledged as %s, and its successor has %d %s, version %q", a.pk, a.resp.Body, got.Status, got.Body, version)
	}
}
