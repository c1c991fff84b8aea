package lambdahost_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/lambdas/documents"
	"originchain/lambdas/instancetest"
	"originchain/shared/alarms"
	"originchain/shared/aws/s3object/s3test"
	"originchain/shared/failover"
	"originchain/shared/incident"
	"originchain/shared/lease"
	"originchain/shared/registry"
	"originchain/test/awsfake"
	"originchain/test/lambdahost"
)

func TestMain(m *testing.M) { s3test.Main(m) }

// cloud is an instance, its stores in files, and the services that the functions reach.
type cloud struct {
	*instancetest.Instance
	t    *testing.T
	fake *awsfake.Fake
	zone string
	dir  string
	env  []string
	// control is the folder of the registry of incidents.
	control string
}

func newCloud(t *testing.T, dir string) *cloud {
	stores := t.TempDir()
	leases, err := lease.OpenFile(vfs.Default, filepath.Join(stores, "lease"))
	if err != nil {
		t.Fatal(err)
	}
	journal, err := registry.OpenFolder(vfs.Default, filepath.Join(stores, "acme"))
	if err != nil {
		t.Fatal(err)
	}
	c := &cloud{t: t, fake: awsfake.Start(t), dir: dir, control: filepath.Join(stores, "control"), Instance: instancetest.New(t, leases, journal, 1)}
	c.zone = c.fake.Route53.Zone("acme.eu.db.example")
	c.fake.SES.Verify("status@db.example")
	c.fake.CloudWatch.Set("acme-oc-controlplane-instance-silent", "ALARM", "no heartbeat")
	for _, verb := range []string{"process", "stop", "start", "restart", "unit", "rewrite"} {
		more, text := "", ""
		if verb == "rewrite" {
			more, text = `,"Text":{"type":"String","allowedPattern":"^[A-Za-z0-9+/=]+$"}`, " {{ Text }}"
		}
		c.fake.SSM.Document("OriginChain-acme-"+verb, fmt.Sprintf(`{"schemaVersion":"2.2","description":"d","parameters":{"Epoch":{"type":"String","allowedPattern":"^[0-9]{1,20}$"}%s},
			"mainSteps":[{"action":"aws:runShellScript","name":"run","inputs":{"runCommand":[%q]}}]}`, more, verb+" {{ Epoch }}"+text))
	}
	for _, id := range []string{"acme-a", "acme-b"} {
		c.fake.SSM.Machine(c.Node(id).Machine, c.agent(id))
	}
	c.env = append(c.fake.Environment(),
		"OC_INSTANCE=acme", "OC_INSTANCES=acme,initech", "OC_LEASES=file://"+filepath.Join(stores, "lease"), "OC_REGISTRY=file://"+filepath.Join(stores, "acme"),
		"OC_CONTROL_REGISTRY=file://"+c.control, "OC_ZONE_ID="+c.zone, "OC_RECORD="+instancetest.Zone, "OC_DOCUMENT_PREFIX=OriginChain-acme",
		"OC_ADMIN_TOKEN_SECRET="+c.fake.Secrets.Put("acme/admin-token", instancetest.Token), "OC_MAIL_FROM=status@db.example", "OC_ARCHIVE=file://"+filepath.Join(stores, "archive"),
	)
	return c
}

// agent carries out what the documents say on a node's machine.
func (c *cloud) agent(id string) awsfake.Agent {
	n, control := c.Node(id), c.Deps().Control
	return func(ctx context.Context, script string) (stdout, stderr string, code int) {
		words := strings.Fields(script)
		var out any
		var err error
		var p failover.Process
		switch words[0] {
		case "process":
			p, err = control.Process(ctx, n)
			out = map[string]any{"running": p.Running, "reaped": p.Reaped, "place": p.Place}
		case "stop":
			p, err = control.Stop(ctx, n)
			out = map[string]any{"running": p.Running, "reaped": p.Reaped, "place": p.Place}
		case "unit":
			name, text, unitErr := control.Unit(ctx, n)
			out, err = map[string]any{"name": name, "text": text}, unitErr
		case "rewrite":
			text, decodeErr := base64.StdEncoding.DecodeString(words[2])
			out, err = struct{}{}, errors.Join(decodeErr, control.Rewrite(ctx, n, text))
		default:
			err = fmt.Errorf("%s is not carried out here", words[0])
		}
		if err != nil {
			return "", err.Error(), 1
		}
		b, err := json.Marshal(out)
		if err != nil {
			return "", err.Error(), 1
		}
		return string(b), "", 0
	}
}

func (c *cloud) start(name string, more ...string) *lambdahost.Function {
	return lambdahost.Start(c.t, name, filepath.Join(c.dir, name, "bootstrap"), append(c.env, more...))
}

func (c *cloud) invoke(f *lambdahost.Function, payload any) map[string]any {
	c.t.Helper()
	b, err := json.Marshal(payload)
	if err != nil {
		c.t.Fatal(err)
	}
	out, err := f.Invoke(c.t.Context(), b, time.Minute)
	if err != nil {
		c.t.Fatalf("%v\n%s", err, f.Output())
	}
	var a map[string]any
	if err := json.Unmarshal(out, &a); err != nil {
		c.t.Fatalf("%s: %v", out, err)
	}
	return a
}

// event is the recorded alarm, as of now.
func event(t *testing.T) json.RawMessage {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "lambdas", "silence", "testdata", "eventbridge-alarm.json"))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.ReplaceAll(b, []byte("2026-03-01T12:00:00.314+0000"), []byte(time.Now().UTC().Format("2006-01-02T15:04:05.000+0000")))
}

func TestPrograms(t *testing.T) {
	dir := build(t, root, t.TempDir(), nil, "silence", "promote", "dns", "notify", "status", "pitrverify")
	t.Run("failover", func(t *testing.T) { failsOver(t, newCloud(t, dir)) })
	t.Run("errors", func(t *testing.T) { goesWrong(t, newCloud(t, dir)) })
	t.Run("builds", func(t *testing.T) { same(t, dir) })
}

// failsOver has the real programs make another node the writer, from the alarm's event to
// the name in Route 53, keep the incidents, and publish the page.
func failsOver(t *testing.T, c *cloud) {
	c.Kill("acme-a")
	silence, steps, name := c.start("silence"), c.start("promote"), c.start("dns")
	begun := c.invoke(silence, map[string]any{"event": event(t), "execution": "one", "round": 0})
	if begun["verdict"] != "promote" || begun["run"] == "" || begun["target"] != "acme-b" {
		t.Fatalf("%v\n%s", begun, silence.Output())
	}
	for _, step := range failover.StepNames()[1:] {
		f := steps
		if step == "dns" {
			f = name
		}
		if a := c.invoke(f, map[string]any{"step": step, "run": begun["run"]}); a["outcome"] != "ok" {
			t.Fatalf("%s: %v", step, a)
		}
	}
	if r := c.Record(); r.Holder != "acme-b" || r.Epoch != 2 || !r.Confirmed() {
		t.Errorf("%+v", r)
	}
	if ttl, values := c.fake.Route53.Record(c.zone, instancetest.Zone+".", "A"); ttl != 60 || len(values) != 1 || values[0] != c.Node("acme-b").Address {
		t.Errorf("%d, %v", ttl, values)
	}
	gone := removed(t, c)
	c.invoke(c.start("notify"), map[string]any{"say": map[string]any{"execution": "one", "step": "tell", "run": begun["run"]}})
	if !gone() {
		t.Error("the incident of an instance that was removed is open")
	}
	bucket := s3test.NewBucket(t, false)
	page := c.start("status", "AWS_ENDPOINT_URL_S3="+bucket.Endpoint, "AWS_ACCESS_KEY_ID="+s3test.AccessKey, "AWS_SECRET_ACCESS_KEY="+s3test.SecretKey, "OC_STATUS_BUCKET="+bucket.Name)
	watch := map[string]any{"event": map[string]any{"watch": true}, "execution": "watch", "round": 0}
	for state, why := range map[string]string{"OK": "not_alarm", "ALARM": "repeated"} {
		c.fake.CloudWatch.Set("acme-oc-controlplane-instance-silent", state, "x")
		if a := c.invoke(silence, watch); a["verdict"] != "ignored" || !strings.Contains(fmt.Sprint(a["reasons"]), why) {
			t.Errorf("%s: %v", state, a)
		}
	}
	if a := c.invoke(page, map[string]any{"source": "aws.scheduler"}); a["health"] != "outage" || a["incidents"] != 3.0 { // the alarm is on, the failover over
		t.Errorf("%v", a)
	}
	for _, f := range []*lambdahost.Function{silence, steps, name} {
		if strings.Contains(f.Output(), instancetest.Token) {
			t.Errorf("a token is in the log: %s", f.Output())
		}
	}
	if !strings.Contains(silence.Output(), `"request_id":"silence-1"`) {
		t.Errorf("the log names no request: %s", silence.Output())
	}
}

// removed opens an incident of an instance that is not there, and says whether it is over.
func removed(t *testing.T, c *cloud) func() bool {
	control, err := registry.OpenFolder(vfs.Default, c.control)
	if err != nil {
		t.Fatal(err)
	}
	store := incident.NewStore(documents.Of(control), incident.Fixed{}, time.Now, func() float64 { return 0 })
	i, err := store.Open(t.Context(), incident.Opening{ID: "gone", Severity: alarms.TenantDown, Title: "x", Text: "x", Cause: incident.Cause{Alarm: alarms.InstanceSilent, Instance: "globex"}})
	if err != nil {
		t.Fatal(err)
	}
	return func() bool {
		now, ok, err := store.Get(t.Context(), i.ID)
		return err == nil && ok && now.Resolved != nil
	}
}

// goesWrong: errors have their names, a call that takes too long ends, and so does a
// program that cannot begin, which lists what is wrong.
func goesWrong(t *testing.T, c *cloud) {
	var failed *lambdahost.Error
	steps := c.start("promote")
	if _, err := steps.Invoke(t.Context(), []byte(`{"step":"fence","run":"other"}`), time.Minute); !errors.As(err, &failed) || failed.Type != "OC.OutOfTurn" {
		t.Errorf("%v", err)
	}
	if _, err := steps.Invoke(t.Context(), []byte(`{"step":"boast","run":"R"}`), time.Minute); !errors.As(err, &failed) || failed.Type != "OC.Input" {
		t.Errorf("%v", err)
	}
	verify := c.start("pitrverify")
	if _, err := verify.Invoke(t.Context(), []byte(`{"verify":true}`), time.Minute); !errors.As(err, &failed) || failed.Type != "OC.Unavailable" { // there is no archive
		t.Errorf("%v", err)
	}
	out, err := verify.Invoke(t.Context(), []byte(`{"verify":true}`), 20*time.Second)
	if err != nil || !strings.Contains(string(out), `"handed_over":true`) {
		t.Errorf("%s, %v", out, err)
	}
	slow := c.start("silence")
	if err := slow.Freeze(); err != nil {
		t.Fatal(err)
	}
	if _, err := slow.Invoke(t.Context(), event(t), 500*time.Millisecond); !errors.As(err, &failed) || failed.Type != "Sandbox.Timedout" {
		t.Fatalf("%v", err) // it has not been ended, and does not end
	}
	<-slow.Ended()
	if _, err := slow.Invoke(t.Context(), event(t), time.Minute); !errors.As(err, &failed) || failed.Type != "Runtime.ExitError" {
		t.Errorf("%v", err)
	}
	wrong := c.start("promote", "OC_INSTANCE=Acme!", "OC_LEASES=", "OC_REGISTRY=ftp://x", "OC_ADMIN_TOKEN_SECRET=hunter2")
	<-wrong.Ended()
	for _, want := range []string{"promote cannot begin", "4 faults", "OC_INSTANCE", "OC_LEASES is not set", "OC_REGISTRY", "OC_ADMIN_TOKEN_SECRET"} {
		if !strings.Contains(wrong.Output(), want) {
			t.Errorf("%q is not in %s", want, wrong.Output())
		}
	}
	if strings.Contains(wrong.Output(), "hunter2") {
		t.Errorf("a value is repeated: %s", wrong.Output())
	}
}
