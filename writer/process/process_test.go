package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"originchain/shared/api"
	"originchain/shared/datadir"
	"originchain/shared/fault"
	"originchain/shared/httpx"
	"originchain/shared/tenant"
	"originchain/writer/config"
)

// fake is a node that does what a test says.
type fake struct {
	routes []httpx.Route
	fail   chan error
	mu     sync.Mutex
	calls  []string
}

func (f *fake) note(call string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, call)
}

func (f *fake) Routes() []httpx.Route              { return f.routes }
func (f *fake) Authenticator() httpx.Authenticator { return nobody{} }
func (f *fake) Close() error                       { f.note("close"); return nil }
func (f *fake) Run(ctx context.Context) error {
	select {
	case err := <-f.fail:
		f.note("failed")
		return err
	case <-ctx.Done():
		f.note("run ended")
		return nil
	}
}

// nobody has no token.
type nobody struct{}

func (nobody) Authenticate(context.Context, string) (tenant.Identity, error) {
	return tenant.Identity{}, fault.New(fault.Unauthorized, "no")
}

// output is what a process writes, readable while it runs.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
	// grown is sent to after a write.
	grown chan struct{}
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.buf.Write(p)
	select {
	case o.grown <- struct{}{}:
	default:
	}
	return n, err
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// running is a process under test.
type running struct {
	t       *testing.T
	err     *output
	signals chan os.Signal
	code    chan int
	exits   chan int
}

// start runs a process on a free port with its data in dir.
func start(t *testing.T, dir string, open Open, args ...string) *running {
	t.Helper()
	r := &running{t: t, err: &output{grown: make(chan struct{}, 1)}, signals: make(chan os.Signal), code: make(chan int, 1), exits: make(chan int, 1)}
	p := Process{Name: "oc-server", Args: append([]string{"--data-dir", dir, "--listen", "127.0.0.1:0"}, args...),
		LookupEnv: func(string) (string, bool) { return "", false }, Stdout: io.Discard, Stderr: r.err, Signals: r.signals,
		Exit: func(code int) { r.exits <- code }, Linger: time.Hour}
	go func() { r.code <- p.Main(open) }()
	return r
}

// line waits for a log line with the message and returns it.
func (r *running) line(message string, fields ...string) map[string]any {
	r.t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		for _, text := range strings.Split(r.err.String(), "\n") {
			var line map[string]any
			if json.Unmarshal([]byte(text), &line) != nil || line["msg"] != message {
				continue
			}
			match := true
			for i := 0; i+1 < len(fields); i += 2 {
				match = match && line[fields[i]] == fields[i+1]
			}
			if match {
				return line
			}
		}
		select {
		case <-r.err.grown:
		case <-deadline:
			r.t.Fatalf("no line %q in\n%s", message, r.err)
		}
	}
}

// url is where a listener of the process answers.
func (r *running) url(listener string) string {
	r.t.Helper()
	return "http://" + r.line("listening", "listener", listener)["address"].(string)
}

// get asks and returns status and body; connections are not kept, so that no
// goroutine of the client outlives it.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func publicRoutes() []httpx.Route {
	return []httpx.Route{
		{Method: "GET", Pattern: "/health", Name: "health", Handler: func(c *httpx.Call) error { return c.JSON(200, "node") }},
		{Method: "GET", Pattern: "/v1/topology", Name: "topology", Scope: httpx.Tenant, Handler: func(c *httpx.Call) error { return nil }},
	}
}

func opens(f *fake) Open {
	return func(context.Context, config.Config, Deps) (Node, error) { return f, nil }
}

func TestLifeOfAProcess(t *testing.T) {
	defer goleak.VerifyNone(t)
	dir := t.TempDir()
	proceed := make(chan struct{})
	f := &fake{routes: publicRoutes()}
	r := start(t, dir, func(_ context.Context, cfg config.Config, deps Deps) (Node, error) {
		deps.Progress("replaying")
		<-proceed
		return f, nil
	})
	url := r.url("api")
	code, body := get(t, url+"/health")
	var h api.Health
	if err := json.Unmarshal([]byte(body), &h); err != nil || code != 200 || h.Status != api.HealthOK || h.Mode != "writer" {
		t.Errorf("/health while opening: %d %s", code, body)
	}
	for code, body = get(t, url+"/ready"); !strings.Contains(body, "replaying"); code, body = get(t, url+"/ready") {
	}
	if code != 503 || !strings.Contains(body, `"ready":false`) {
		t.Errorf("/ready while opening: %d %s", code, body)
	}
	if code, body = get(t, url+"/v1/topology"); code != 503 || !strings.Contains(body, "not_ready") {
		t.Errorf("a call while opening: %d %s", code, body)
	}
	if code, body = get(t, url+"/metrics"); code != 200 || !strings.Contains(body, `oc_node_info{advertise="",mode="writer",region="local"} 1`) {
		t.Errorf("/metrics while opening: %d %s", code, body)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("the data directory is written to before it is locked: %v %v", entries, err)
	}
	close(proceed)
	r.line("serving")
	if code, body = get(t, url+"/health"); code != 200 || body != "\"node\"\n" {
		t.Errorf("/health of the node: %d %s", code, body)
	}
	if code, _ = get(t, url+"/v1/topology"); code != 401 {
		t.Errorf("a call without a token: %d", code)
	}
	for _, name := range []string{"admin.token", "audit.log"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	r.signals <- syscall.SIGTERM
	if code := <-r.code; code != ExitOK {
		t.Errorf("exit code %d: %s", code, r.err)
	}
	if got := strings.Join(f.calls, ", "); got != "run ended, close" {
		t.Errorf("the node saw %s", got)
	}
	if _, err := net.Dial("tcp", strings.TrimPrefix(url, "http://")); err == nil {
		t.Error("the port is still open")
	}
}

func TestOperationsOnTheirOwnListener(t *testing.T) {
	f := &fake{routes: publicRoutes()}
	r := start(t, t.TempDir(), opens(f), "--ops-listen", "127.0.0.1:0")
	apiURL, opsURL := r.url("api"), r.url("ops")
	r.line("serving")
	for url, want := range map[string]int{apiURL + "/health": 404, apiURL + "/v1/topology": 401, opsURL + "/health": 200, opsURL + "/v1/topology": 404} {
		if code, body := get(t, url); code != want {
			t.Errorf("%s: %d %s", url, code, body)
		}
	}
	r.signals <- syscall.SIGINT
	if code := <-r.code; code != ExitOK {
		t.Errorf("exit code %d: %s", code, r.err)
	}
}

func TestFailStopIsSeenThenExits(t *testing.T) {
	f := &fake{routes: publicRoutes(), fail: make(chan error, 1)}
	r := start(t, t.TempDir(), opens(f))
	url := r.url("api")
	r.line("serving")
	f.fail <- errors.New("fsync: input/output error")
	r.line("fail-stop")
	if code, _ := get(t, url+"/health"); code != 200 { // the node's own handler says what is wrong
		t.Errorf("/health after the failure: %d", code)
	}
	r.signals <- syscall.SIGTERM // instead of waiting out the hour
	if code := <-r.code; code != ExitDisk {
		t.Errorf("exit code %d", code)
	}
	if got := strings.Join(f.calls, ", "); got != "failed, close" || !strings.Contains(r.err.String(), "oc-server: the node stopped itself: fsync") {
		t.Errorf("the node saw %s; %s", got, r.err)
	}
}

func TestANodeThatDoesNotOpen(t *testing.T) {
	for name, c := range map[string]struct {
		err     error
		code    int
		visible bool
	}{
		"corrupt": {&fault.Corruption{File: "0001.log", What: "checksum", Remedy: "restore it"}, ExitRefused, true},
		"foreign": {fmt.Errorf("%w: x", datadir.ErrForeign), ExitRefused, true},
		"newer":   {fmt.Errorf("%w: x", datadir.ErrNewer), ExitRefused, true},
		"locked":  {fmt.Errorf("%w: x", datadir.ErrLocked), ExitLocked, false},
		"other":   {errors.New("read-only file system"), ExitFailure, true},
	} {
		r := start(t, t.TempDir(), func(context.Context, config.Config, Deps) (Node, error) { return nil, c.err })
		if c.visible {
			url := r.url("api")
			r.line("the node could not be opened")
			if code, body := get(t, url+"/health"); code != 503 || !strings.Contains(body, `"reason":"`) {
				t.Errorf("%s: /health %d %s", name, code, body)
			}
			r.signals <- syscall.SIGTERM
		}
		if code := <-r.code; code != c.code || !strings.Contains(r.err.String(), "oc-server: "+c.err.Error()) {
			t.Errorf("%s: exit code %d: %s", name, code, r.err)
		}
	}
}

func TestASignalWhileOpening(t *testing.T) {
	r := start(t, t.TempDir(), func(ctx context.Context, _ config.Config, _ Deps) (Node, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	r.url("api")
	r.signals <- syscall.SIGTERM
	if code := <-r.code; code != ExitOK {
		t.Errorf("exit code %d: %s", code, r.err)
	}
}

func TestTheSecondSignalStopsAtOnce(t *testing.T) {
	leave := make(chan struct{})
	r := start(t, t.TempDir(), func(context.Context, config.Config, Deps) (Node, error) {
		<-leave
		return nil, context.Canceled
	})
	r.url("api")
	r.signals <- syscall.SIGTERM
	r.signals <- syscall.SIGHUP // means something else
	r.signals <- syscall.SIGINT
	if code := <-r.exits; code != ExitFailure {
		t.Errorf("exit code %d", code)
	}
	close(leave)
	<-r.code
}

func TestRefusedBeforeTheNodeIsServed(t *testing.T) {
	dir := t.TempDir()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	open := filepath.Join(dir, "open.token")
	if err := os.WriteFile(open, []byte(strings.Repeat("x", 30)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"address taken":     {[]string{"--listen", taken.Addr().String()}, ExitFailure, "--listen"},
		"ops address taken": {[]string{"--ops-listen", taken.Addr().String()}, ExitFailure, "--ops-listen"},
		"no certificate":    {[]string{"--tls-cert", "/none", "--tls-key", "/none"}, ExitUsage, "/none"},
		"open token file":   {[]string{"--admin-token-file", open}, ExitUsage, "chmod 600"},
		"mode":              {[]string{"--mode", "follower"}, ExitUsage, "replication"},
		"unknown flag":      {[]string{"--nope"}, ExitUsage, "--help"},
		"an argument":       {[]string{"start"}, ExitUsage, "--help"},
		"two faults":        {[]string{"--region", "", "--log-level", "x"}, ExitUsage, "--region"},
	} {
		f := &fake{routes: publicRoutes()}
		r := start(t, t.TempDir(), opens(f), c.args...)
		if code := <-r.code; code != c.code || !strings.Contains(r.err.String(), c.want) {
			t.Errorf("%s: exit code %d: %s", name, code, r.err)
		}
		if c.code == ExitUsage && name == "open token file" && strings.Join(f.calls, "") != "close" {
			t.Errorf("%s: the node saw %v", name, f.calls)
		}
	}
}

// run runs a command line that does not serve.
func run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	p := Process{Name: "oc-server", Args: args, LookupEnv: func(name string) (string, bool) {
		v, ok := map[string]string{"OC_REGION": "eu-central-1"}[name]
		return v, ok
	}, Stdout: &out, Stderr: &errs}
	code = p.Main(func(context.Context, config.Config, Deps) (Node, error) { return nil, errors.New("not to be opened") })
	return code, out.String(), errs.String()
}

func TestCommandLine(t *testing.T) {
	code, out, _ := run(t, "--data-dir", "/d", "--print-config")
	var printed map[string]string
	if err := json.Unmarshal([]byte(out), &printed); err != nil || code != ExitOK || printed["region"] != "eu-central-1" || printed["admin-token-file"] != "/d/admin.token" {
		t.Errorf("--print-config: %d %v %s", code, err, out)
	}
	if code, out, _ = run(t, "--version"); code != ExitOK || !regexp.MustCompile(`^oc-server version \S+ \(commit \S+, go1\.`).MatchString(out) {
		t.Errorf("--version: %d %s", code, out)
	}
	code, out, _ = run(t, "--help")
	for _, want := range []string{"Exit codes:", "--segment-max-age", "[OC_SEGMENT_MAX_AGE]", "completion"} {
		if code != ExitOK || !strings.Contains(out, want) {
			t.Errorf("--help lacks %q: %d %s", want, code, out)
		}
	}
	for shell, want := range map[string]string{"bash": "__start_oc-server", "zsh": "#compdef oc-server", "fish": "complete -c oc-server", "powershell": "Register-ArgumentCompleter"} {
		if code, out, _ = run(t, "completion", shell); code != ExitOK || !strings.Contains(out, want) {
			t.Errorf("completion %s: %d", shell, code)
		}
	}
	if code, _, errs := run(t, "completion", "tcsh"); code != ExitUsage || !strings.Contains(errs, "tcsh") {
		t.Errorf("completion of an unknown shell: %d %s", code, errs)
	}
	if code, _, errs := run(t); code != ExitUsage || !strings.Contains(errs, "--data-dir") || strings.Count(errs, "oc-server: ") != strings.Count(errs, "\n") {
		t.Errorf("no data directory: %d %s", code, errs)
	}
}
