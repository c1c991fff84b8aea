package awsfake_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	r53types "github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"originchain/test/awsfake"
	"originchain/test/awsfake/model"
)

const (
	machine  = "i-0123456789abcdef0"
	stopping = `{"schemaVersion":"2.2","description":"d","parameters":{"Epoch":{"type":"String","allowedPattern":"^[0-9]{1,20}$"}},
		"mainSteps":[{"action":"aws:runShellScript","name":"run","inputs":{"runCommand":["stop --epoch {{ Epoch }}"]}}]}`
)

// codeOf is the code that a service answered with.
func codeOf(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return fmt.Sprint(err)
}

type ssmWorld struct {
	*awsfake.Fake
	client *ssm.Client

	mu  sync.Mutex
	ran []string
	// began is told, if it listens or later, that something has run.
	began chan struct{}
}

func newSSM(t *testing.T) *ssmWorld {
	w := &ssmWorld{Fake: awsfake.Start(t), began: make(chan struct{}, 100)}
	w.client = ssm.NewFromConfig(w.Config(), func(o *ssm.Options) { o.Retryer = aws.NopRetryer{} })
	w.SSM.Document("Doc-stop", stopping)
	w.SSM.Machine(machine, func(_ context.Context, script string) (string, string, int) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ran = append(w.ran, script)
		w.began <- struct{}{}
		return "out", "err", 3 * strings.Count(script, "13")
	})
	return w
}

func (w *ssmWorld) runs() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.ran)
}

func (w *ssmWorld) send(epoch string) (string, error) {
	out, err := w.client.SendCommand(context.Background(), &ssm.SendCommandInput{
		DocumentName: aws.String("Doc-stop"), InstanceIds: []string{machine}, TimeoutSeconds: aws.Int32(30), Parameters: map[string][]string{"Epoch": {epoch}},
	})
	if err != nil {
		return "", err
	}
	return *out.Command.CommandId, nil
}

// follow polls a command until it has ended, and returns all that was said of it.
func (w *ssmWorld) follow(t *testing.T, id string) (said []string, last *ssm.GetCommandInvocationOutput) {
	t.Helper()
	for range 10_000 {
		out, err := w.client.GetCommandInvocation(context.Background(), &ssm.GetCommandInvocationInput{CommandId: &id, InstanceId: aws.String(machine)})
		now := codeOf(err)
		if err == nil {
			now = *out.StatusDetails
		}
		if len(said) == 0 || said[len(said)-1] != now {
			said = append(said, now)
		}
		if err == nil && now != "Pending" && now != "Delayed" && now != "InProgress" && now != "Cancelling" {
			return said, out
		}
	}
	t.Fatalf("the command does not end: %v", said)
	return nil, nil
}

func TestCommandsAreRunAndTold(t *testing.T) {
	w := newSSM(t)
	for epoch, want := range map[string]string{"7": "Success", "13": "Failed"} {
		id, err := w.send(epoch)
		if err != nil {
			t.Fatal(err)
		}
		_, out := w.follow(t, id)
		if *out.StatusDetails != want || *out.StandardOutputContent != "out" || *out.StandardErrorContent != "err" || out.ResponseCode != int32(3*strings.Count(epoch, "13")) {
			t.Errorf("%s: %+v", epoch, out)
		}
	}
	if len(w.ran) != 2 || !strings.HasPrefix(w.ran[0], "stop --epoch ") {
		t.Errorf("ran %q", w.ran)
	}
	if _, err := w.send("seven"); codeOf(err) != "InvalidParameters" {
		t.Errorf("a parameter that is not allowed: %v", err)
	}
	w.SSM.Gone(machine)
	if _, err := w.send("7"); codeOf(err) != "InvalidInstanceId" {
		t.Errorf("a machine that is gone: %v", err)
	}
}

// TestAMachineThatIsAway: what is sent to it is taken, and carried out when it is back, unless
// that was taken back.
func TestAMachineThatIsAway(t *testing.T) {
	w := newSSM(t)
	w.SSM.Away(machine)
	first, err := w.send("7")
	second, err2 := w.send("8")
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	if _, err := w.client.CancelCommand(t.Context(), &ssm.CancelCommandInput{CommandId: &second}); err != nil {
		t.Fatal(err)
	}
	if got := w.SSM.Commands(); got[0].Details != "Pending" || got[1].Details != "Cancelled" {
		t.Errorf("%+v", got)
	}
	w.SSM.Back(machine)
	if _, out := w.follow(t, first); *out.StatusDetails != "Success" || len(w.ran) != 1 {
		t.Errorf("%+v, ran %q", out, w.ran)
	}
}

func TestAwkwardDeliveries(t *testing.T) {
	w := newSSM(t)
	for name, c := range map[string]struct {
		how  awsfake.Delivery
		last string
		runs int
		says string
	}{
		"invisible":    {awsfake.Invisible(2), "Success", 1, "InvocationDoesNotExist"},
		"delayed":      {awsfake.Delayed(3), "Success", 1, "Delayed"},
		"timed out":    {awsfake.DeliveryTimedOut(1), "Delivery Timed Out", 0, "Delayed"},
		"undelivered":  {awsfake.Undeliverable(), "Undeliverable", 0, "Undeliverable"},
		"takes longer": {awsfake.Overruns(), "Execution Timed Out", 1, "Execution Timed Out"},
	} {
		before := w.runs()
		w.SSM.Deliver(machine, c.how)
		id, err := w.send("7")
		if err != nil {
			t.Fatal(err)
		}
		said, _ := w.follow(t, id)
		if said[len(said)-1] != c.last || !strings.Contains(strings.Join(said, ","), c.says) || w.runs()-before != c.runs {
			t.Errorf("%s: said %v, ran %d", name, said, w.runs()-before)
		}
	}
}

// TestCancelling: before the delivery it holds, unless the delivery was under way.
func TestCancelling(t *testing.T) {
	for name, late := range map[string]bool{"in time": false, "too late": true} {
		t.Run(name, func(t *testing.T) {
			w := newSSM(t)
			gate := make(chan struct{})
			if late {
				w.SSM.Deliver(machine, awsfake.Late(gate))
			} else {
				w.SSM.Deliver(machine, awsfake.Waiting(gate))
			}
			id, err := w.send("7")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.client.CancelCommand(t.Context(), &ssm.CancelCommandInput{CommandId: &id, InstanceIds: []string{machine}}); err != nil {
				t.Fatal(err)
			}
			close(gate)
			if said, _ := w.follow(t, id); said[len(said)-1] != "Cancelled" {
				t.Errorf("said %v", said)
			}
			// A second command is delivered after the first one, as its gate is open.
			second, err := w.send("8")
			if err != nil {
				t.Fatal(err)
			}
			w.follow(t, second)
			for late && w.runs() < 2 { // it runs, whatever the service says
				select {
				case <-w.began:
				case <-time.After(20 * time.Second):
					t.Fatal("it never ran")
				}
			}
			if want := map[bool]int{false: 1, true: 2}[late]; w.runs() != want {
				t.Errorf("%d ran, want %d", w.runs(), want)
			}
		})
	}
}

func TestAwkwardAnswers(t *testing.T) {
	w := newSSM(t)
	w.SSM.Next("SendCommand", awsfake.Throttle(), awsfake.Lost(), awsfake.Unanswered(), awsfake.Well())
	if _, err := w.send("7"); codeOf(err) != "ThrottlingException" {
		t.Errorf("throttled: %v", err)
	}
	for i, commands := range []int{0, 1} {
		if _, err := w.send("7"); err == nil || len(w.SSM.Commands()) != commands {
			t.Errorf("%d: %v, %d commands", i, err, len(w.SSM.Commands()))
		}
	}
	if _, err := w.send("7"); err != nil {
		t.Error(err)
	}
	if n := len(w.SSM.Calls("SendCommand")); n != 4 {
		t.Errorf("%d calls", n)
	}
}

// recorder is a test that may fail.
type recorder struct {
	testing.TB
	mu     sync.Mutex
	failed []string
}

func (r *recorder) Error(args ...any) { r.Errorf("%s", fmt.Sprint(args...)) }

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = append(r.failed, fmt.Sprintf(format, args...))
}

// TestAViolationFailsTheTest: of a request, of an answer of the fake itself, and of a signature.
func TestAViolationFailsTheTest(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(f *awsfake.Fake, client *ssm.Client) error
		want string
	}{
		"request": {func(_ *awsfake.Fake, client *ssm.Client) error {
			_, err := client.SendCommand(t.Context(), &ssm.SendCommandInput{DocumentName: aws.String("Doc-stop"), InstanceIds: []string{"machine-1"}})
			return err
		}, `ssm SendCommand: input.InstanceIds[0]: "machine-1" is not of the pattern of InstanceId`},
		"answer": {func(f *awsfake.Fake, client *ssm.Client) error {
			f.SSM.Next("CancelCommand", awsfake.Fail("NoSuchThing", ""))
			_, err := client.CancelCommand(t.Context(), &ssm.CancelCommandInput{CommandId: aws.String(strings.Repeat("x", 36))})
			return err
		}, `ssm CancelCommand: error: CancelCommand does not fail with "NoSuchThing"`},
	} {
		r := &recorder{TB: t}
		f := awsfake.Start(r)
		client := ssm.NewFromConfig(f.Config(), func(o *ssm.Options) { o.Retryer = aws.NopRetryer{} })
		if err := c.do(f, client); err == nil || len(r.failed) != 1 || !strings.Contains(r.failed[0], c.want) {
			t.Errorf("%s: %v, failed %q", name, err, r.failed)
		}
	}
	r := &recorder{TB: t}
	f := awsfake.Start(r)
	elsewhere := f.Config()
	elsewhere.Region = "us-east-1"
	client := ssm.NewFromConfig(elsewhere, func(o *ssm.Options) { o.Retryer = aws.NopRetryer{} })
	_, err := client.CancelCommand(t.Context(), &ssm.CancelCommandInput{CommandId: aws.String(strings.Repeat("x", 36))})
	var refused *smithyhttp.ResponseError
	if !errors.As(err, &refused) || refused.HTTPStatusCode() != http.StatusForbidden || len(r.failed) != 1 || !strings.Contains(r.failed[0], "is signed for the region us-east-1") {
		t.Errorf("signed for another region: %v, failed %q", err, r.failed)
	}
	if n := len(f.SSM.Calls("CancelCommand")); n > 0 {
		t.Errorf("signed for another region, and it was carried out: %d", n)
	}
	r = &recorder{TB: t}
	f = awsfake.Start(r)
	if res, err := http.Post(f.URL, "", nil); err != nil || res.Body.Close() != nil || len(r.failed) != 1 || !strings.Contains(r.failed[0], "not signed") {
		t.Errorf("%v, failed %q", err, r.failed)
	}
}

// TestWithoutModelsTestsFail: nothing is answered that could not be checked.
func TestWithoutModelsTestsFail(t *testing.T) {
	t.Setenv(model.DirVariable, t.TempDir())
	r := &recorder{TB: t}
	f := awsfake.Start(r)
	client := ssm.NewFromConfig(f.Config(), func(o *ssm.Options) { o.Retryer = aws.NopRetryer{} })
	_, err := client.CancelCommand(t.Context(), &ssm.CancelCommandInput{CommandId: aws.String(strings.Repeat("x", 36))})
	if err == nil || len(r.failed) != 1 || !strings.Contains(r.failed[0], "apt-get install python3-botocore") {
		t.Errorf("%v, failed %q", err, r.failed)
	}
}

type r53World struct {
	*awsfake.Fake
	client *route53.Client
	zone   string
	server string
}

func newRoute53(t *testing.T) *r53World {
	w := &r53World{Fake: awsfake.Start(t)}
	w.client = route53.NewFromConfig(w.Config(), func(o *route53.Options) { o.Retryer = aws.NopRetryer{} })
	w.zone = w.Route53.Zone("example.com")
	w.server = w.Route53.ServeDNS("127.0.0.1")
	return w
}

func (w *r53World) change(action r53types.ChangeAction, name, kind, value string) (string, error) {
	out, err := w.client.ChangeResourceRecordSets(context.Background(), &route53.ChangeResourceRecordSetsInput{
		HostedZoneId: &w.zone, ChangeBatch: &r53types.ChangeBatch{Changes: []r53types.Change{{
			Action:            action,
			ResourceRecordSet: &r53types.ResourceRecordSet{Name: &name, Type: r53types.RRType(kind), TTL: aws.Int64(60), ResourceRecords: []r53types.ResourceRecord{{Value: &value}}},
		}}},
	})
	if err != nil {
		return "", err
	}
	return *out.ChangeInfo.Id, nil
}

func (w *r53World) status(t *testing.T, id string) string {
	t.Helper()
	out, err := w.client.GetChange(t.Context(), &route53.GetChangeInput{Id: &id})
	if err != nil {
		t.Fatal(err)
	}
	return string(out.ChangeInfo.Status)
}

// resolved asks the name server.
func (w *r53World) resolved(t *testing.T, network, name string) string {
	t.Helper()
	q := new(dns.Msg)
	q.SetQuestion(name, dns.TypeA)
	m, _, err := (&dns.Client{Net: network}).ExchangeContext(t.Context(), q, w.server)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Answer) == 0 {
		return dns.RcodeToString[m.Rcode]
	}
	return strings.ReplaceAll(m.Answer[0].String(), "\t", " ")
}

func TestChangesAreServedOnceTheyAreInSync(t *testing.T) {
	w := newRoute53(t)
	w.Route53.Pending(2)
	id, err := w.change("CREATE", "db.Example.com", "A", "10.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"PENDING", "PENDING"} {
		if got := w.status(t, id); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if got := w.resolved(t, "udp", "db.example.com."); got != "NXDOMAIN" {
			t.Errorf("while it is pending: %s", got)
		}
	}
	if got := w.status(t, id); got != "INSYNC" {
		t.Errorf("got %s", got)
	}
	for _, network := range []string{"udp", "tcp"} {
		if got := w.resolved(t, network, "DB.example.com."); got != "db.example.com. 60 IN A 10.0.0.1" {
			t.Errorf("%s: %s", network, got)
		}
	}
	if got := w.resolved(t, "udp", "example.com."); got != "NOERROR" {
		t.Errorf("a name without addresses: %s", got)
	}
	if got := w.resolved(t, "udp", "example.org."); got != "REFUSED" {
		t.Errorf("another zone: %s", got)
	}
}

func TestChangesThatAreRefused(t *testing.T) {
	w := newRoute53(t)
	if _, err := w.change("CREATE", "db.example.com.", "A", "10.0.0.1"); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string][4]string{
		"but it already exists":  {"CREATE", "db.example.com.", "A", "10.0.0.2"},
		"but it was not found":   {"DELETE", "dc.example.com.", "A", "10.0.0.1"},
		"do not match":           {"DELETE", "db.example.com.", "A", "10.0.0.2"},
		"is not permitted in zo": {"UPSERT", "db.example.org.", "A", "10.0.0.1"},
		"conflicts with":         {"UPSERT", "db.example.com.", "CNAME", "x.example."},
		"not a valid IPv4":       {"UPSERT", "db.example.com.", "A", "::1"},
	} {
		_, err := w.change(r53types.ChangeAction(c[0]), c[1], c[2], c[3])
		if codeOf(err) != "InvalidChangeBatch" || !strings.Contains(err.Error(), what) {
			t.Errorf("%v: %v", c, err)
		}
	}
	if ttl, values := w.Route53.Record(w.zone, "db.example.com", "A"); ttl != 60 || !cmp.Equal(values, []string{"10.0.0.1"}) {
		t.Errorf("it has become %d %v", ttl, values)
	}
	w.Route53.Next("ChangeResourceRecordSets", awsfake.Fail("PriorRequestNotComplete", "m"), awsfake.Fail("Throttling", "Rate exceeded"))
	for _, want := range []string{"PriorRequestNotComplete", "Throttling", "<nil>"} {
		if _, err := w.change("UPSERT", "db.example.com.", "A", "10.0.0.2"); codeOf(err) != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	w.zone = "ZNONE"
	if _, err := w.change("UPSERT", "db.example.com.", "A", "10.0.0.2"); codeOf(err) != "NoSuchHostedZone" {
		t.Error(err)
	}
	if _, err := w.client.GetChange(t.Context(), &route53.GetChangeInput{Id: aws.String("C1")}); codeOf(err) != "NoSuchChange" {
		t.Error(err)
	}
}

func TestRecordsAreListedInPages(t *testing.T) {
	w := newRoute53(t)
	for _, name := range []string{"b.example.com.", "a.example.com.", "z.a.example.com."} {
		if _, err := w.change("CREATE", name, "A", "10.0.0.1"); err != nil {
			t.Fatal(err)
		}
	}
	w.Route53.Put(w.zone, model.Struct{"Name": "b.example.com.", "Type": "AAAA", "TTL": int64(5), "SetIdentifier": "x", "Weight": int64(1),
		"ResourceRecords": []any{model.Struct{"Value": "::1"}}})
	var got []string
	in := &route53.ListResourceRecordSetsInput{HostedZoneId: &w.zone, MaxItems: aws.Int32(2)}
	for {
		out, err := w.client.ListResourceRecordSets(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		for _, set := range out.ResourceRecordSets {
			got = append(got, *set.Name+" "+string(set.Type))
		}
		if !out.IsTruncated {
			break
		}
		in.StartRecordName, in.StartRecordType, in.StartRecordIdentifier = out.NextRecordName, out.NextRecordType, out.NextRecordIdentifier
	}
	want := []string{"example.com. NS", "example.com. SOA", "a.example.com. A", "z.a.example.com. A", "b.example.com. A", "b.example.com. AAAA"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	out, err := w.client.GetHostedZone(t.Context(), &route53.GetHostedZoneInput{Id: &w.zone})
	if err != nil || *out.HostedZone.Name != "example.com." || *out.HostedZone.ResourceRecordSetCount != 6 {
		t.Errorf("%+v, %v", out, err)
	}
}
