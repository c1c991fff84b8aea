package awsdrill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"originchain/infra/statemachine"
	"originchain/lambdas/documents"
	"originchain/lambdas/local/drill"
	"originchain/lambdas/silence"
	"originchain/shared/alarms"
	"originchain/shared/aws/ddbregistry"
	"originchain/shared/failover"
	"originchain/shared/incident"
	"originchain/test/awsfake"
	"originchain/test/lambdahost"
	"originchain/test/settle"
	"originchain/test/stepfunctions"
)

const (
	// imdsPort is that of the first machine's metadata service; each next one has the next.
	imdsPort  = 7450
	agentUnit = "oc-node.service"
	mailFrom  = "status@db.example.com"
	// calledFor bounds a call of a function, as its time-out does.
	calledFor = 90 * time.Second
)

// control is what acts by itself: agents on the machines, the alarm, the state machine that
// it starts, and the functions, which are the programs that are deployed.
type control struct {
	*region
	functions map[string]*lambdahost.Function
	subs      *incident.Store

	mu sync.Mutex
	// events are what the alarm has told, runs the executions that have ended.
	events [][]byte
	when   []time.Time
	runs   []stepfunctions.Ended
	calls  map[string]int // by state
	last   map[string]json.RawMessage
	work   sync.WaitGroup
	// ctx ends executions with the test.
	ctx context.Context //nolint:containedctx // of the work, not of a call
}

// newControl is a region whose control plane is at work; the alarm is calm.
func newControl(t *testing.T, with ...func(*region)) *control {
	t.Helper()
	c := &control{region: newRegion(t, with...), functions: map[string]*lambdahost.Function{}, calls: map[string]int{}, last: map[string]json.RawMessage{}}
	c.incidents()
	for i, n := range c.nodes {
		c.metadata(i, n)
		n.machine.WriteUnit(agentUnit, c.agentUnit(i))
		n.systemctl("start", agentUnit)
	}
	c.deploy()
	ctx, stop := context.WithCancel(context.Background())
	c.ctx = ctx
	t.Cleanup(func() { stop(); c.work.Wait() })
	c.watch()
	settle.Eventually(t, "the alarm is calm, and the agents have registered their nodes", c.calm)
	return c
}

// incidents has somebody be told of what happens.
func (c *control) incidents() {
	c.t.Helper()
	u, err := url.Parse(c.incidentsURL)
	c.must(err)
	where, err := ddbregistry.Parse(u)
	c.must(err)
	store, err := ddbregistry.New(c.t.Context(), where)
	c.must(err)
	docs := documents.Of(store)
	roster := incident.NewRoster(docs)
	c.must(roster.Subscribe(c.t.Context(), incident.Subscriber{ID: "ops", Email: "ops@acme.example", UpTo: alarms.TenantDown}))
	c.subs = incident.NewStore(docs, roster, time.Now, rand.Float64)
	c.fake.SES.Verify(mailFrom)
}

// metadata is the machine's metadata service.
func (c *control) metadata(i int, n *node) {
	c.t.Helper()
	document, err := json.Marshal(map[string]any{"dynamic": map[string]any{"values": map[string]any{"instance-identity-document": map[string]string{
		"instanceId": n.Machine, "privateIp": n.Address, "region": awsfake.Region, "availabilityZone": awsfake.Region + string(rune('a'+i)), "accountId": awsfake.Account,
	}}}})
	c.must(err)
	dir := c.t.TempDir()
	file := filepath.Join(dir, "imds.json")
	c.must(os.WriteFile(file, document, 0o600))
	cmd := exec.Command(filepath.Join(os.Getenv(toolsEnv), "ec2-metadata-mock"), "--imdsv2", "--hostname", c.net.Gateway(), "--port", strconv.Itoa(imdsPort+i), "--config-file", file) //nolint:noctx // it is ended below
	cmd.Env = []string{"HOME=" + dir}
	c.must(cmd.Start())
	c.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	settle.Eventually(c.t, "the metadata service of "+n.ID+" listens", func() error {
		conn, err := net.Dial("tcp", c.at(imdsPort+i))
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// agentUnit is the unit of a node's agent, which is told as well what reaches AWS here.
func (c *control) agentUnit(i int) string {
	reach := append(c.fake.Environment(), "AWS_EC2_METADATA_SERVICE_ENDPOINT=http://"+c.at(imdsPort+i))
	return agentText(c.nodes[i].ID, append(reach, c.agentVariables()...))
}

// deploy starts the functions with the environment that a deployment gives them.
func (c *control) deploy() {
	c.t.Helper()
	for name, variables := range c.variables(c.settings.CA) {
		c.functions[name] = c.function(name, variables)
	}
}

// function starts one with an environment, beside what reaches AWS.
func (r *region) function(name string, variables []string) *lambdahost.Function {
	r.t.Helper()
	return lambdahost.Start(r.t, instance+"-"+name, filepath.Join(os.Getenv(toolsEnv), name), append(r.fake.Environment(), variables...))
}

// watch has the alarm of the table evaluated; when it goes off, the rule starts the machine.
func (c *control) watch() {
	for _, a := range alarms.ForCloudWatch(alarms.Table()) {
		if a.Name != alarms.InstanceSilent {
			continue
		}
		c.fake.CloudWatch.Evaluate(awsfake.MetricAlarm{
			Name: silence.AlarmName(instance), Namespace: alarms.Namespace(instance), Metric: a.Metric, Statistic: a.Statistic, Comparison: a.Comparison, Missing: string(a.Missing),
			Threshold: a.Threshold, Period: a.Period, Periods: a.Periods, Dimensions: map[string]string{"Instance": instance},
		}, c.changed)
	}
}

func (c *control) calm() error {
	for _, n := range c.nodes {
		found, err := failover.Nodes(context.Background(), c.deps.Registry)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(found, func(f failover.Node) bool { return f.ID == n.ID })
		if i < 0 || found[i].Machine != n.Machine || found[i].Address != n.Address {
			return fmt.Errorf("%s is registered as %+v", n.ID, found)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.events) == 0 || !strings.Contains(string(c.events[len(c.events)-1]), `"value":"OK"`) {
		return fmt.Errorf("the alarm has told %d changes", len(c.events))
	}
	return nil
}

// changed is the rule of the alarm: what it tells of going off starts an execution.
func (c *control) changed(event []byte) {
	c.mu.Lock()
	c.events, c.when = append(c.events, event), append(c.when, time.Now())
	n := len(c.events)
	c.mu.Unlock()
	if alarmed(event) {
		c.work.Go(func() { c.execute(n, event) })
	}
}

// execute runs the state machine on an event.
func (c *control) execute(n int, event []byte) {
	server := httptest.NewServer(c)
	defer server.Close()
	values := map[string]string{statemachine.Topic: "arn:aws:sns:" + awsfake.Region + ":" + awsfake.Account + ":originchain-" + instance + "-page"}
	for name, placeholder := range map[string]string{"silence": statemachine.Silence, "promote": statemachine.Promote, "dns": statemachine.Dns, "notify": statemachine.Notify} {
		values[placeholder] = lambdahost.ARN + instance + "-" + name
	}
	dir := c.t.TempDir()
	definition, err := statemachine.Render(values)
	if err == nil {
		err = errors.Join(os.WriteFile(filepath.Join(dir, "definition.json"), definition, 0o600), os.WriteFile(filepath.Join(dir, "event.json"), event, 0o600))
	}
	var ended stepfunctions.Ended
	if err == nil {
		ended, err = stepfunctions.Runner{Dir: filepath.Join("..", "stepfunctions")}.Run(c.ctx, stepfunctions.Execution{
			ID: fmt.Sprintf("arn:aws:states:%s:%s:execution:oc-%s-failover:%d", awsfake.Region, awsfake.Account, instance, n), Server: server.URL,
			Definition: filepath.Join(dir, "definition.json"), Input: filepath.Join(dir, "event.json"),
		})
	}
	if c.ctx.Err() != nil {
		return
	}
	if err != nil {
		c.t.Error(err)
	}
	c.mu.Lock()
	c.runs = append(c.runs, ended)
	c.mu.Unlock()
}

// ServeHTTP carries out a task of the machine.
func (c *control) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in struct {
		FunctionName string
		Payload      json.RawMessage
		Message      string
	}
	state := strings.TrimPrefix(r.URL.Path, "/")
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		c.t.Error(err)
	}
	f := c.functions[strings.TrimPrefix(in.FunctionName, lambdahost.ARN+instance+"-")]
	if f == nil {
		c.t.Errorf("%s calls %q: %s", state, in.FunctionName, in.Message)
		http.Error(w, "{}", http.StatusInternalServerError)
		return
	}
	out, err := f.Invoke(r.Context(), in.Payload, calledFor)
	c.mu.Lock()
	c.calls[state]++
	c.last[state] = out
	c.mu.Unlock()
	var failed *lambdahost.Error
	if errors.As(err, &failed) {
		c.t.Logf("%s: %v", state, err)
		w.WriteHeader(http.StatusInternalServerError)
		_ = json.NewEncoder(w).Encode(failed) // whoever asked is gone
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]json.RawMessage{"Payload": out})
}

// ended waits until an execution has ended, and returns it.
func (c *control) ended() stepfunctions.Ended {
	c.t.Helper()
	var out stepfunctions.Ended
	settle.Eventually(c.t, "the execution ends", func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.runs) == 0 {
			return fmt.Errorf("so many calls: %v; the last answers: %s", c.calls, c.last)
		}
		out = c.runs[0]
		return nil
	})
	return out
}

// rang is when the alarm went off after a moment.
func (c *control) rang(after time.Time) (time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, e := range c.events {
		if c.when[i].After(after) && alarmed(e) {
			return c.when[i], nil
		}
	}
	return time.Time{}, fmt.Errorf("the alarm has told %d changes, and did not go off", len(c.events))
}

func alarmed(event []byte) bool {
	var e struct {
		Detail struct {
			State struct{ Value string } `json:"state"`
		} `json:"detail"`
	}
	return json.Unmarshal(event, &e) == nil && e.Detail.State.Value == "ALARM"
}

// replaced checks what a failover leaves that nobody has asked for but the alarm.
func (c *control) replaced(ended stepfunctions.Ended, at time.Time, drilled drill.Report) {
	c.t.Helper()
	way := "Fence DeriveUnit RaiseEpoch Promote Smoke Dns Record LetGo"
	if states := strings.Join(ended.States, " "); ended.Status != "SUCCEEDED" || !strings.Contains(states, way) || !strings.HasSuffix(states, "Tell Done") {
		c.t.Errorf("the execution ended as %+v", ended)
	}
	a, b := c.nodes[0], c.nodes[1]
	rep, ok, err := failover.LastFailover(c.t.Context(), c.deps.Registry)
	if err != nil || !ok || rep.Epoch != 2 || rep.From != a.ID || rep.To != b.ID || rep.LostTo != 0 {
		c.t.Errorf("the registry has %+v, %t, %v", rep, ok, err)
	}
	if ttl, is := c.fake.Route53.Record(c.zone, record+".", "A"); ttl != failover.RecordTTL || len(is) != 1 || is[0] != b.Address {
		c.t.Errorf("%s is %v with TTL %d, want %s", record, is, ttl, b.Address)
	}
	rang, err := c.rang(at)
	c.must(err)
	c.t.Logf("fault to alarm %.1f s, of %.1f s to the first acknowledged write", rang.Sub(at).Seconds(), drilled.FirstAck)
	c.told()
}

// told checks that the incident of the failover is there and over, and that who asked for it
// was told.
func (c *control) told() {
	c.t.Helper()
	settle.Eventually(c.t, "subscribers are told of the failover, and that it is over", func() error {
		_, err := c.functions["notify"].Invoke(c.t.Context(), []byte(`{"source":"aws.scheduler"}`), calledFor)
		if err != nil {
			return err
		}
		past, err := c.subs.Past(c.t.Context())
		if err != nil {
			return err
		}
		subjects := make([]string, 0, len(c.fake.SES.Sent()))
		for _, m := range c.fake.SES.Sent() {
			for line := range strings.Lines(string(m.Raw)) {
				if rest, ok := strings.CutPrefix(line, "Subject: "); ok {
					subjects = append(subjects, strings.TrimSpace(rest))
				}
			}
		}
		over := slices.ContainsFunc(past, func(id string) bool { return strings.HasPrefix(id, "failover-") })
		if !over || len(subjects) < 2 {
			return fmt.Errorf("the incidents that are over are %v; these were sent: %q", past, subjects)
		}
		return nil
	})
}

// byAlarm is that nobody does anything: the alarm's event starts the state machine.
func (c *control) byAlarm(f fault) {
	c.t.Helper()
	var began time.Time
	var ended stepfunctions.Ended
	rep := c.survives(f, func(at time.Time) error {
		began = at
		settle.Eventually(c.t, "the alarm goes off", func() error {
			_, err := c.rang(at)
			return err
		})
		ended = c.ended()
		return nil
	})
	c.replaced(ended, began, rep)
}

// TestTheAlarmOfALostMachine: its agent is gone with it, and the alarm misses the heartbeat.
func TestTheAlarmOfALostMachine(t *testing.T) {
	c := newControl(t)
	c.byAlarm(c.lostMachine())
}

// TestAlarms are the others, which take minutes.
func TestAlarms(t *testing.T) {
	if *all {
		t.Run("of a frozen server", frozenServer)
		t.Run("of a disk that hangs", hungDisk)
		t.Run("that is false", falseAlarm)
	}
}

// frozenServer: the agent lives, and says how long the server has not answered.
func frozenServer(t *testing.T) {
	c := newControl(t)
	c.byAlarm(c.frozenServer())
}

// falseAlarm: the agent is gone, and the writer is well. The alarm goes off, and nobody
// is fenced: the machine looks again and again, at pauses that grow.
func falseAlarm(t *testing.T) {
	c := newControl(t)
	a := c.nodes[0]
	l := c.steady()
	was := a.pid()
	at := time.Now()
	a.systemctl("stop", agentUnit)
	settle.Eventually(t, "the alarm was looked into, and again", func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.calls["Confirm"] < 3 {
			return fmt.Errorf("%v", c.calls)
		}
		return nil
	})
	_, err := c.rang(at)
	c.must(err)
	l.writesOn() // it writes on, whatever the alarm says
	c.mu.Lock()
	var said silence.Answer
	if err := json.Unmarshal(c.last["Confirm"], &said); err != nil || said.Verdict != silence.Verdict(failover.Wait) || said.Writer != a.ID || c.calls["Fence"] > 0 || len(c.runs) > 0 {
		t.Errorf("%v: %+v, %v", err, said, c.calls)
	}
	c.mu.Unlock()
	rec, _, err := c.deps.Lease.Load(t.Context())
	if err != nil || rec.Epoch != 1 || rec.Holder != a.ID || a.pid() != was {
		t.Errorf("%+v, %v; the process is %d and was %d", rec, err, a.pid(), was)
	}
	l.held()
}
