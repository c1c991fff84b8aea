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

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"originchain/shared/datadir"
	"originchain/shared/fault"
	"originchain/shared/frame"
	"originchain/shared/httpx"
	"originchain/shared/recover"
	"originchain/shared/tenant"
	"originchain/shared/wal"
	"originchain/writer/config"
)

// fake is a node that does what a test says.
type fake struct {
	server  *httpx.Server
	ops     *httpx.Server
	deps    Deps
	opened  chan struct{}
	proceed chan error // what opening ends with
	fail    chan error // what the open node ends with
	mu      sync.Mutex
	calls   []string
}

func newFake() *fake {
	f := &fake{opened: make(chan struct{}), proceed: make(chan error, 1), fail: make(chan error, 1)}
	f.proceed <- nil
	return f
}

// build is a New that gives f.
func (f *fake) build(cfg config.Config, deps Deps) (Node, error) {
	f.deps = deps
	d := httpx.Deps{Log: deps.Log, Metrics: httpx.NewMetrics(deps.Metrics), Auth: nobody{}, Admin: deps.Admin, Audit: deps.Audit}
	routes := []httpx.Route{
		{Method: "GET", Pattern: "/health", Name: "health", Handler: func(c *httpx.Call) error { return c.JSON(200, "healthy") }},
		{Method: "GET", Pattern: "/metrics", Name: "metrics", Handler: httpx.FromHTTP(deps.Metrics.Handler())},
		{Method: "GET", Pattern: "/v1/topology", Name: "topology", Scope: httpx.Tenant, Handler: func(*httpx.Call) error { return nil }},
	}
	var err error
	if f.ops, err = httpx.New(httpx.Config{}, d, httpx.InScope(routes, httpx.Public)); err != nil {
		return nil, err
	}
	if cfg.OpsListen != "" {
		routes = httpx.InScope(routes, httpx.Tenant)
	}
	f.server, err = httpx.New(httpx.Config{}, d, routes)
	return f, err
}

func (f *fake) note(call string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, call)
}

func (f *fake) Handler() http.Handler    { return f.server }
func (f *fake) OpsHandler() http.Handler { return f.ops }
func (f *fake) Opened() <-chan struct{}  { return f.opened }
func (f *fake) Close() error             { f.note("close"); return nil }
func (f *fake) Run(ctx context.Context) error {
	select {
	case err := <-f.proceed:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	close(f.opened)
	f.deps.Log.Info("serving")
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
func start(t *testing.T, dir string, build New, args ...string) *running {
	t.Helper()
	r := &running{t: t, err: &output{grown: make(chan struct{}, 1)}, signals: make(chan os.Signal), code: make(chan int, 1), exits: make(chan int, 1)}
	p := Process{Name: "oc-server", Args: append([]string{"--data-dir", dir, "--listen", "127.0.0.1:0"}, args...),
		LookupEnv: func(string) (string, bool) { return "", false }, Stdout: io.Discard, Stderr: r.err, Signals: r.signals,
		Exit: func(code int) { r.exits <- code }}
	go func() { r.code <- p.Main(build) }()
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

func TestLifeOfAProcess(t *testing.T) {
	defer goleak.VerifyNone(t)
	dir := filepath.Join(t.TempDir(), "new")
	f := newFake()
	r := start(t, dir, f.build, "--node-id", "n1", "--region", "eu-central-1", "--advertise", "https://db.example.com")
	url := r.url("api")
	r.line("serving")
	if code, body := get(t, url+"/health"); code != 200 || body != "\"healthy\"\n" {
		t.Errorf("/health: %d %s", code, body)
	}
	if code, _ := get(t, url+"/v1/topology"); code != 401 {
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

// A token that is put into the file is taken at once; what is no token changes nothing.
func TestTheAdminTokenChanges(t *testing.T) {
	defer goleak.VerifyNone(t)
	dir, f := t.TempDir(), newFake()
	var admin *tenant.AdminToken
	r := start(t, dir, func(cfg config.Config, deps Deps) (Node, error) {
		admin = deps.Admin
		return f.build(cfg, deps)
	})
	r.line("serving")
	file := filepath.Join(dir, "admin.token")
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	put := func(text string) {
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	put("short")
	r.line("the new admin token is not usable, the old one stays in use")
	next := strings.Repeat("n", 32)
	put(next)
	r.line("new admin token in use")
	for _, text := range []string{strings.TrimSpace(string(old)), next} {
		if _, ok := admin.Matches(text); !ok {
			t.Errorf("%.9s… is not taken", text)
		}
	}
	if _, ok := admin.Matches("short"); ok {
		t.Error("what is no token is taken")
	}
	r.signals <- syscall.SIGTERM
	if code := <-r.code; code != ExitOK {
		t.Errorf("exit code %d: %s", code, r.err)
	}
}

func TestOperationsOnTheirOwnListener(t *testing.T) {
	r := start(t, t.TempDir(), newFake().build, "--ops-listen", "127.0.0.1:0")
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

func TestFailStop(t *testing.T) {
	f := newFake()
	r := start(t, t.TempDir(), f.build)
	r.line("serving")
	f.fail <- errors.New("fsync: input/output error")
	if code := <-r.code; code != ExitDisk {
		t.Errorf("exit code %d", code)
	}
	if got := strings.Join(f.calls, ", "); got != "failed, close" || !strings.Contains(r.err.String(), "oc-server: the node stopped itself: fsync") {
		t.Errorf("the node saw %s; %s", got, r.err)
	}
}

func TestANodeThatDoesNotOpen(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		code int
	}{
		"corrupt":           {&fault.Corruption{File: "0001.log", What: "checksum", Remedy: "restore it"}, ExitRefused},
		"mismatch":          {&recover.MismatchError{What: "digest"}, ExitRefused},
		"foreign":           {fmt.Errorf("%w: x", datadir.ErrForeign), ExitRefused},
		"newer":             {fmt.Errorf("%w: x", datadir.ErrNewer), ExitRefused},
		"a foreign segment": {fmt.Errorf("x: %w", &wal.ForeignError{Path: "0001.log"}), ExitRefused},
		"a newer segment":   {fmt.Errorf("x: %w", &frame.NewerError{What: "frame version"}), ExitRefused},
		"locked":            {fmt.Errorf("%w: x", datadir.ErrLocked), ExitLocked},
		"other":             {errors.New("read-only file system"), ExitFailure},
	} {
		f := newFake()
		<-f.proceed
		f.proceed <- c.err
		r := start(t, t.TempDir(), f.build)
		if code := <-r.code; code != c.code || !strings.Contains(r.err.String(), "oc-server: "+c.err.Error()) {
			t.Errorf("%s: exit code %d: %s", name, code, r.err)
		}
	}
}

func TestASignalWhileOpening(t *testing.T) {
	f := newFake()
	<-f.proceed
	r := start(t, t.TempDir(), f.build)
	r.url("api")
	r.signals <- syscall.SIGTERM
	if code := <-r.code; code != ExitOK || strings.Join(f.calls, ", ") != "close" {
		t.Errorf("exit code %d, the node saw %v: %s", code, f.calls, r.err)
	}
}

// stuck is a node whose work does not end.
type stuck struct {
	*fake
	leave chan struct{}
}

func (s *stuck) Run(context.Context) error { <-s.leave; return nil }

func TestTheSecondSignalStopsAtOnce(t *testing.T) {
	s := &stuck{fake: newFake(), leave: make(chan struct{})}
	r := start(t, t.TempDir(), func(cfg config.Config, deps Deps) (Node, error) {
		_, err := s.build(cfg, deps)
		return s, err
	})
	r.url("api")
	r.signals <- syscall.SIGTERM
	r.signals <- syscall.SIGHUP // means something else
	r.signals <- syscall.SIGINT
	if code := <-r.exits; code != ExitFailure {
		t.Errorf("exit code %d", code)
	}
	close(s.leave)
	<-r.code
}

func TestNothingIsLeftInSomebodyElsesDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.tex"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, dir, newFake().build)
	if code := <-r.code; code != ExitRefused {
		t.Errorf("exit code %d: %s", code, r.err)
	}
	for _, name := range []string{"admin.token", "audit.log"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s was made", name)
		}
	}
	first := newFake()
	dir = t.TempDir()
	held, err := datadir.Open(datadir.Options{FS: vfs.Default, Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	r = start(t, dir, first.build)
	if code := <-r.code; code != ExitLocked || first.server != nil {
		t.Errorf("a directory in use: exit code %d: %s", code, r.err)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestRefusedBeforeTheNodeIsServed(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	open := filepath.Join(t.TempDir(), "open.token")
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
		"mode":              {[]string{"--mode", "follower"}, ExitUsage, "--leader-addr"},
		"unknown flag":      {[]string{"--nope"}, ExitUsage, "--help"},
		"an argument":       {[]string{"start"}, ExitUsage, "--help"},
		"two faults":        {[]string{"--region", "", "--log-level", "x"}, ExitUsage, "--region"},
	} {
		f := newFake()
		r := start(t, t.TempDir(), f.build, c.args...)
		if code := <-r.code; code != c.code || !strings.Contains(r.err.String(), c.want) {
			t.Errorf("%s: exit code %d: %s", name, code, r.err)
		}
		if len(f.calls) != 0 {
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
	code = p.Main(func(config.Config, Deps) (Node, error) { return nil, errors.New("not to be made") })
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
	for _, want := range []string{"Exit codes:", "--segment-max-age", "[OC_SEGMENT_MAX_AGE]", "completion", "verify"} {
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
