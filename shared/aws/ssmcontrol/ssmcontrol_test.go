package ssmcontrol

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/google/go-cmp/cmp"

	"originchain/shared/aws/session"
	"originchain/shared/failover"
	"originchain/shared/lease"
	"originchain/test/awsfake"
)

const (
	prefix   = "OriginChain-orders"
	unitFile = "/etc/systemd/system/oc-http.service"
	instance = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
)

func node() failover.Node { return failover.Node{ID: "orders-a", Machine: "i-0123456789abcdef0"} }

// box is a machine: it carries out commands as oc-node does, by the record.
type box struct {
	leases *lease.Memory

	mu      sync.Mutex
	running bool
	unit    string
	did     []string // the commands that changed something, and those refused
	prints  string   // in place of what it would print
	exit    int      // in place of success
}

func (b *box) run(ctx context.Context, script string) (stdout, stderr string, code int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	words := strings.Fields(script)
	verb, epoch := words[0], words[1]
	if verb != "process" && verb != "unit" {
		r, _, err := b.leases.Load(ctx)
		if err != nil || strconv.FormatUint(uint64(r.Epoch), 10) != epoch {
			b.did = append(b.did, "refused "+script)
			return "", fmt.Sprintf("the record is of epoch %d", r.Epoch), ExitEpoch
		}
		b.did = append(b.did, verb)
	}
	switch verb {
	case "stop":
		b.running = false
	case "start", "restart":
		b.running = true
	case "rewrite":
		text, err := base64.StdEncoding.DecodeString(words[2])
		if err != nil {
			return "", err.Error(), 1
		}
		b.unit = string(text)
	}
	if b.exit != 0 {
		return "", "it went wrong", b.exit
	}
	if b.prints != "" {
		return b.prints, "", 0
	}
	if verb == "unit" {
		return printed(unitText{unitFile, []byte(b.unit)}), "", 0
	}
	pid := map[bool]int{true: 42}[b.running]
	return printed(map[string]any{"running": b.running, "pid": pid, "reaped": !b.running, "place": "boot:1:2"}), "", 0
}

func printed(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// actions are what the machine did, or refused.
func (b *box) actions() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.did, ",")
}

type world struct {
	*testing.T
	fake *awsfake.Fake
	box  *box
	*Control
	// as is the control by the record of epoch 7.
	as failover.Control
}

func start(t *testing.T) *world {
	w := &world{T: t, fake: awsfake.Start(t), box: &box{leases: lease.NewMemory(lease.Hooks{}), running: true, unit: "[Service]\n"}}
	for _, v := range []verb{verbProcess, verbStop, verbStart, verbRestart, verbUnit, verbRewrite} {
		more, script := "", string(v)+" {{ Epoch }}"
		if v == verbRewrite {
			more, script = `,"Text":{"type":"String","allowedPattern":"^[A-Za-z0-9+/=]+$"}`, script+" {{ Text }}"
		}
		w.fake.SSM.Document(prefix+"-"+string(v), fmt.Sprintf(`{"schemaVersion":"2.2","description":"d",
			"parameters":{"Epoch":{"type":"String","allowedPattern":"^[0-9]{1,20}$"}%s},
			"mainSteps":[{"action":"aws:runShellScript","name":"run","inputs":{"runCommand":[%q]}}]}`, more, script))
	}
	w.fake.SSM.Machine(node().Machine, w.box.run)
	w.epoch(7)
	var err error
	w.Control, err = New(t.Context(), Config{
		Prefix: prefix, pace: time.Millisecond,
		Config: session.Config{Region: awsfake.Region, Endpoint: w.fake.URL, Credentials: awsfake.Credentials()},
	}, w.box.leases)
	if err != nil {
		t.Fatal(err)
	}
	w.as = w.AsOf(7)
	return w
}

// epoch takes epochs in the record up to one.
func (w *world) epoch(to uint64) {
	w.Helper()
	r, _, err := w.box.leases.Load(w.Context())
	for err == nil && uint64(r.Epoch) < to {
		next := lease.Candidate{Instance: instance, Node: "orders-a", URL: "http://a.example"}
		if r, err = r.Take(next); err == nil {
			r, err = w.box.leases.CompareAndSet(w.Context(), r.Version, r)
		}
	}
	if err != nil {
		w.Fatal(err)
	}
}

func TestEveryCall(t *testing.T) {
	w := start(t)
	p, err := w.Process(t.Context(), node())
	if diff := cmp.Diff(failover.Process{Running: true, PID: 42, Place: "boot:1:2"}, p); diff != "" || err != nil {
		t.Errorf("process: %v (-want +got):\n%s", err, diff)
	}
	p, err = w.as.Stop(t.Context(), node())
	if diff := cmp.Diff(failover.Process{Reaped: true, Place: "boot:1:2"}, p); diff != "" || err != nil {
		t.Errorf("stop: %v (-want +got):\n%s", err, diff)
	}
	if err := errors.Join(w.as.Start(t.Context(), node()), w.as.Restart(t.Context(), node())); err != nil {
		t.Error(err)
	}
	long := strings.Repeat("x", maxUnitBytes)
	if err := w.as.Rewrite(t.Context(), node(), []byte(long)); err != nil {
		t.Error(err)
	}
	name, text, err := w.Unit(t.Context(), node())
	if name != unitFile || string(text) != long || err != nil {
		t.Errorf("unit: %q, %d bytes, %v", name, len(text), err)
	}
	if got := w.box.actions(); got != "stop,start,restart,rewrite" {
		t.Errorf("the machine did %s", got)
	}
	for _, c := range w.fake.SSM.Calls("SendCommand") {
		if c.Input["TimeoutSeconds"] != int64(deliverySeconds) {
			t.Errorf("%v", c.Input)
		}
	}
}

// TestAwkwardWays: what becomes of a stop on each way that a command can go, what is done
// of it, and what its caller is told.
func TestAwkwardWays(t *testing.T) {
	for what, c := range map[string]struct {
		delivery awsfake.Delivery
		send     []awsfake.Behaviour
		ask      []awsfake.Behaviour
		did      string
		want     error // of its type; nil: it is done
		says     string
	}{
		"delayed":                      {delivery: awsfake.Delayed(5), did: "stop"},
		"not known yet":                {delivery: awsfake.Invisible(5), did: "stop"},
		"throttled":                    {send: awsfake.Times(attempts-1, awsfake.Throttle()), did: "stop"},
		"throttled for good":           {send: awsfake.Times(attempts, awsfake.Throttle()), want: errors.New(""), says: "nothing was sent"},
		"the answer is lost":           {send: []awsfake.Behaviour{awsfake.Unanswered()}, did: "stop", want: &UnknownError{}, says: "epoch 7 has been followed"},
		"the request is lost":          {send: []awsfake.Behaviour{awsfake.Lost()}, want: &UnknownError{}, says: "nobody knows"},
		"SSM fails":                    {send: []awsfake.Behaviour{awsfake.Fail("InternalServerError", "")}, want: &UnknownError{}, says: "nobody knows"},
		"refused":                      {send: []awsfake.Behaviour{awsfake.Fail("AccessDeniedException", "no")}, want: errors.New(""), says: "nothing was sent"},
		"questions are throttled":      {ask: awsfake.Times(2*attempts+1, awsfake.Throttle()), did: "stop"},
		"questions are lost":           {ask: awsfake.Times(2*attempts+1, awsfake.Unanswered()), did: "stop"},
		"questions are refused":        {ask: []awsfake.Behaviour{awsfake.Fail("AccessDeniedException", "no")}, did: "stop", want: &UnknownError{}, says: "AccessDenied"},
		"undeliverable":                {delivery: awsfake.Undeliverable(), want: &UnreachableError{}, says: "nothing was done"},
		"not delivered in time":        {delivery: awsfake.DeliveryTimedOut(3), want: &UnreachableError{}, says: "nothing was done"},
		"it takes longer than allowed": {delivery: awsfake.Overruns(), did: "stop", want: &UnknownError{}, says: "Execution Timed Out"},
	} {
		t.Run(what, func(t *testing.T) {
			w := start(t)
			w.fake.SSM.Deliver(node().Machine, c.delivery)
			w.fake.SSM.Next("SendCommand", c.send...)
			w.fake.SSM.Next("GetCommandInvocation", c.ask...)
			p, err := w.as.Stop(t.Context(), node())
			if c.want == nil && (err != nil || !p.Reaped || p.Running) {
				t.Errorf("%+v, %v", p, err)
			}
			if c.want != nil && (!same(err, c.want) || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("got %v", err)
			}
			if c.want != nil && p.Reaped {
				t.Error("a process is said to be reaped, and nobody knows")
			}
			// What was sent and not heard of is carried out when it comes.
			if err := w.settled(c.did); err != nil {
				t.Error(err)
			}
			if n := len(w.fake.SSM.Commands()); n > 1 {
				t.Errorf("SSM has taken %d commands", n)
			}
		})
	}
}

// same says whether an error has the type of another; any will do for a plain one.
func same(err, want error) bool {
	var unknown *UnknownError
	var unreachable *UnreachableError
	switch want.(type) {
	case *UnknownError:
		return errors.As(err, &unknown)
	case *UnreachableError:
		return errors.As(err, &unreachable)
	}
	return err != nil && !errors.As(err, &unknown) && !errors.As(err, &unreachable)
}

// settleTimeout is more than it takes.
const settleTimeout = 20 * time.Second

// settled waits until the machine has done what it is to do, and nothing else.
func (w *world) settled(want string) error {
	ctx, cancel := context.WithTimeout(w.Context(), settleTimeout)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for strings.Count(w.box.actions(), ",") < strings.Count(want, ",") || w.box.actions() == "" && want != "" {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the machine did %q, want %q", w.box.actions(), want)
		}
	}
	if got := w.box.actions(); got != want {
		return fmt.Errorf("the machine did %q, want %q", got, want)
	}
	return nil
}

// TestACommandThatComesLate: its caller has gone, and called it back in vain. It comes
// when the node is the writer of another epoch, and is refused.
func TestACommandThatComesLate(t *testing.T) {
	for what, late := range map[string]bool{"called back in time": false, "called back too late": true} {
		t.Run(what, func(t *testing.T) {
			w := start(t)
			gate := make(chan struct{})
			if late {
				w.fake.SSM.Deliver(node().Machine, awsfake.Late(gate))
			} else {
				w.fake.SSM.Deliver(node().Machine, awsfake.Waiting(gate))
			}
			_, err := w.as.Stop(w.fake.SSM.After(t, "GetCommandInvocation", 2, errGone), node())
			if !same(err, &UnknownError{}) || !errors.Is(err, errGone) || !strings.Contains(err.Error(), "Pending") {
				t.Fatalf("got %v", err)
			}
			w.epoch(8)
			close(gate)
			if err = nil; late {
				err = w.settled("refused stop 7")
			} else if len(w.fake.SSM.Calls("CancelCommand")) != 1 || w.fake.SSM.Commands()[0].Details != "Cancelled" {
				err = fmt.Errorf("it was not called back: %+v", w.fake.SSM.Commands())
			}
			if err != nil {
				t.Error(err)
			}
			if p, err := w.Process(t.Context(), node()); err != nil || !p.Running {
				t.Errorf("the writer of the newer epoch: %+v, %v", p, err)
			}
		})
	}
}

var errGone = errors.New("gone")

// TestTimeIsLeftToCallBack: a command that changes something is given up a little before
// its caller's time is over, and one that reads is not.
func TestTimeIsLeftToCallBack(t *testing.T) {
	for _, c := range []struct{ has, left time.Duration }{{time.Hour, cancelTime}, {-time.Hour, 0}} {
		parent, cancel := context.WithTimeout(t.Context(), c.has)
		defer cancel()
		over, _ := parent.Deadline()
		for v, left := range map[verb]time.Duration{verbStop: c.left, verbRewrite: c.left, verbUnit: 0} {
			ctx, end := leaveTime(parent, v)
			if until, ok := ctx.Deadline(); !ok || over.Sub(until) != left {
				t.Errorf("%s, %s: %s are left", v, c.has, over.Sub(until))
			}
			end()
		}
	}
}

func TestTheRecordForbids(t *testing.T) {
	w := start(t)
	// The epoch is followed by another between the sending and the delivery.
	gate := make(chan struct{})
	w.fake.SSM.Deliver(node().Machine, awsfake.Waiting(gate))
	done := make(chan error, 1)
	go func() { _, err := w.as.Stop(t.Context(), node()); done <- err }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for len(w.fake.SSM.Commands()) == 0 {
		select {
		case err := <-done:
			t.Fatalf("it came back by itself: %v", err)
		case <-tick.C:
		}
	}
	w.epoch(8)
	close(gate)
	var forbidden *EpochError
	if err := <-done; !errors.As(err, &forbidden) || forbidden.Epoch != "7" || !strings.Contains(err.Error(), "the record is of epoch 8") {
		t.Errorf("got %v", err)
	}
	if err := w.AsOf(8).Restart(t.Context(), node()); err != nil {
		t.Errorf("by the record of now: %v", err)
	}
}

// TestACallerThatHasStoodStill: it began by a record that another one has followed. Its
// commands are never of the record of now, whose writer they would hit.
func TestACallerThatHasStoodStill(t *testing.T) {
	w := start(t)
	w.epoch(8)
	_, err := w.as.Stop(t.Context(), node())
	all := []error{err, w.as.Start(t.Context(), node()), w.as.Restart(t.Context(), node()), w.as.Rewrite(t.Context(), node(), []byte("x"))}
	for _, err := range all {
		var late *EpochError
		if !errors.As(err, &late) || late.Epoch != "7" || late.Found != 8 || !strings.Contains(err.Error(), "nothing was sent") {
			t.Errorf("got %v", err)
		}
	}
	// Of no epoch nothing is changed either.
	_, err = w.Stop(t.Context(), node())
	all = []error{err, w.Start(t.Context(), node()), w.Restart(t.Context(), node()), w.Rewrite(t.Context(), node(), []byte("x"))}
	for _, err := range all {
		if err == nil || !strings.Contains(err.Error(), "nothing was sent") {
			t.Errorf("got %v", err)
		}
	}
	if n := len(w.fake.SSM.Calls("SendCommand")); n > 0 {
		t.Errorf("%d were sent", n)
	}
	if got := w.box.actions(); got != "" {
		t.Errorf("the machine did %s", got)
	}
}

// away is a store that cannot be read.
type away struct{ lease.Store }

func (away) Load(context.Context) (lease.Record, bool, error) {
	return lease.Record{}, false, errors.New("away")
}

func TestWithoutTheRecordNothingIsChanged(t *testing.T) {
	for what, leases := range map[string]lease.Store{"away": away{}, "no record": lease.NewMemory(lease.Hooks{})} {
		w := start(t)
		w.leases = leases
		w.as = w.AsOf(7)
		_, err := w.as.Stop(t.Context(), node())
		all := []error{err, w.as.Start(t.Context(), node()), w.as.Restart(t.Context(), node()), w.as.Rewrite(t.Context(), node(), []byte("x"))}
		for _, err := range all {
			if err == nil || !strings.Contains(err.Error(), "nothing was sent") {
				t.Errorf("%s: %v", what, err)
			}
		}
		if n := len(w.fake.SSM.Calls("SendCommand")); n > 0 {
			t.Errorf("%s: %d were sent", what, n)
		}
		// What only reads needs no record: it is asked for while the store is away.
		if _, err := w.Process(t.Context(), node()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if _, _, err := w.Unit(t.Context(), node()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestReadingIsAskedForAgain: it does no harm twice.
func TestReadingIsAskedForAgain(t *testing.T) {
	w := start(t)
	w.fake.SSM.Next("SendCommand", awsfake.Unanswered(), awsfake.Lost())
	if _, _, err := w.Unit(t.Context(), node()); err != nil {
		t.Error(err)
	}
}

func TestWhatMachinesSay(t *testing.T) {
	w := start(t)
	w.box.exit = 5
	var failed *FailedError
	if err := w.as.Restart(t.Context(), node()); !errors.As(err, &failed) || failed.Code != 5 || !strings.Contains(err.Error(), "it went wrong") {
		t.Errorf("got %v", err)
	}
	w.box.exit = 0
	for _, text := range []string{"{}", `{"running":false}`, "running", `{"running":"yes"}`, strings.Repeat("x", 30_000)} {
		w.box.prints = text
		if p, err := w.Process(t.Context(), node()); err == nil {
			t.Errorf("%.20q is taken for %+v", text, p)
		}
		if _, _, err := w.Unit(t.Context(), node()); err == nil {
			t.Errorf("%.20q is taken for a unit", text)
		}
	}
	w.box.prints = `{"running":true,"pid":9,"reaped":false}`
	if p, err := w.as.Stop(t.Context(), node()); err == nil || p.PID != 9 || !strings.Contains(err.Error(), "process 9 runs") {
		t.Errorf("a server that runs on: %+v, %v", p, err)
	}
	w.fake.SSM.Gone(node().Machine)
	if _, err := w.Process(t.Context(), node()); !same(err, &UnreachableError{}) {
		t.Errorf("a machine that is gone: %v", err)
	}
}

func TestBadInputSendsNothing(t *testing.T) {
	w := start(t)
	for _, machine := range []string{"", "orders-a", "i-", "i-0123456789abcdefg", "i-0123456789ABCDEF0"} {
		if err := w.as.Start(t.Context(), failover.Node{ID: "orders-a", Machine: machine}); err == nil || !strings.Contains(err.Error(), "nothing was sent") {
			t.Errorf("%q: %v", machine, err)
		}
	}
	for _, size := range []int{0, maxUnitBytes + 1} {
		if err := w.as.Rewrite(t.Context(), node(), make([]byte, size)); err == nil || !strings.Contains(err.Error(), "nothing was sent") {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	if n := len(w.fake.SSM.Calls("SendCommand")); n > 0 {
		t.Errorf("%d were sent", n)
	}
	if _, err := New(t.Context(), Config{Prefix: "a b"}, w.leases); err == nil {
		t.Error("a prefix of two words is taken")
	}
}

// TestDetails: they are told apart with spaces and without, and what is not known is said
// to be so.
func TestDetails(t *testing.T) {
	for _, c := range []struct {
		status  types.CommandInvocationStatus
		details string
		code    int32
		want    string
	}{
		{"TimedOut", "Delivery Timed Out", -1, "*ssmcontrol.UnreachableError"},
		{"TimedOut", "DeliveryTimedOut", -1, "*ssmcontrol.UnreachableError"},
		{"TimedOut", "ExecutionTimedOut", -1, "*ssmcontrol.UnknownError"},
		{"Failed", "Undeliverable", -1, "*ssmcontrol.UnreachableError"},
		{"Failed", "Terminated", -1, "*ssmcontrol.UnknownError"},
		{"Failed", "Failed", ExitEpoch, "*ssmcontrol.EpochError"},
		{"Failed", "Failed", 1, "*ssmcontrol.FailedError"},
		{"Cancelled", "Cancelled", -1, "*ssmcontrol.UnknownError"},
		{"Rebooting", "New", -1, "*ssmcontrol.UnknownError"},
		{"Delayed", "Delayed", -1, "<nil>"},
	} {
		_, ended, err := order{verb: verbStop}.ended(&ssm.GetCommandInvocationOutput{Status: c.status, StatusDetails: &c.details, ResponseCode: c.code})
		if got := fmt.Sprintf("%T", err); got != c.want || ended == (err == nil) {
			t.Errorf("%s, %s: %s", c.status, c.details, got)
		}
	}
}

// A failover waits for its answers as long as they take: each pause before a command is
// asked after again fits in, and that of who acts by a record is the same.
func TestPace(t *testing.T) {
	c := &Control{}
	if c.Pace() <= firstPoll+lastPoll || c.Pace() >= answerTimeout {
		t.Errorf("%s", c.Pace())
	}
	if p, ok := c.AsOf(7).(failover.Paced); !ok || p.Pace() != c.Pace() {
		t.Errorf("by a record: %v", p)
	}
}
