package subscribers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/aws/ddblease/ddbtest"
	"originchain/shared/aws/ddbregistry"
	"originchain/shared/incident"
	"originchain/shared/registry"
	"originchain/shared/registry/registryopen"
)

const tableName = "originchain-registry"

// secret signs webhooks, and token is part of their URL; neither is ever shown.
const secret, token = "5ecre7-5ecre7-5ecre7", "T0KEN"

// shell is where the command is typed.
type shell struct {
	t   *testing.T
	url string
	env map[string]string
}

// at is a shell whose registry is in an emulator.
func at(t *testing.T) *shell {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	endpoint := ddbtest.Start(t)
	ddbtest.Table(t, endpoint, tableName, ddbregistry.RegistryAttribute, ddbregistry.KeyAttribute)
	return &shell{t: t, url: "dynamodb://" + tableName + "/control?" + url.Values{"region": {ddbtest.Region}, "endpoint": {endpoint}}.Encode()}
}

// run runs one command, whose output is both of its streams.
func (s *shell) run(args ...string) (code int, out string) {
	s.t.Helper()
	var stdout, stderr bytes.Buffer
	code = Main(s.t.Context(), Program{Version: "test", Args: args, Stdout: &stdout, Stderr: &stderr, LookupEnv: func(name string) (string, bool) {
		v, ok := s.env[name]
		return v, ok
	}})
	out = stdout.String() + stderr.String()
	if strings.Contains(out, secret) || strings.Contains(out, token) {
		s.t.Errorf("%q shows what is secret:\n%s", args, out)
	}
	if code != ExitOK && stdout.Len() > 0 || code == ExitOK && stderr.Len() > 0 {
		s.t.Errorf("%q: exit code %d, on standard output %q, on standard error %q", args, code, stdout.String(), stderr.String())
	}
	return code, out
}

// call is run with the registry.
func (s *shell) call(args ...string) (code int, out string) {
	s.t.Helper()
	return s.run(append(args, "--registry", s.url)...)
}

func (s *shell) must(args ...string) string {
	s.t.Helper()
	code, out := s.call(args...)
	if code != ExitOK {
		s.t.Fatalf("%q: exit code %d\n%s", args, code, out)
	}
	return out
}

// store is the registry as the function notify opens it.
func (s *shell) store() registry.Store {
	s.t.Helper()
	store, err := registryopen.Open(s.t.Context(), vfs.Default, s.url)
	if err != nil {
		s.t.Fatal(err)
	}
	return store
}

// file is one that its owner alone may read.
func (s *shell) file(text string) string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func TestCommandLine(t *testing.T) {
	s := &shell{t: t, url: "dynamodb://" + tableName + "/control?region=eu-central-1&endpoint=http%3A%2F%2F127.0.0.1%3A1"}
	good, short, open := s.file(secret), s.file("5ecre7"), s.file(secret)
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	mail, hook := []string{"add", "--id", "ops", "--email", "ops@example.com"}, []string{"add", "--id", "hook", "--url", "https://h.example/" + token}
	with := func(args []string, more ...string) []string { return append(slices.Clone(args), more...) }
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--help"}, ExitOK, "somebody else has changed"},
		{[]string{"--version"}, ExitOK, "test, go"},
		{[]string{"completion", "bash"}, ExitOK, "oc-subscribers"},
		{nil, ExitUsage, "name a command"},
		{[]string{"what"}, ExitUsage, "what"},
		{[]string{"list", "more"}, ExitUsage, "more"},
		{[]string{"list", "--what"}, ExitUsage, "--what"},
		{[]string{"list"}, ExitUsage, "--registry"},
		{[]string{"list", "--registry", "dynamodb://u:" + token + "@h/\x7f"}, ExitUsage, "no URL"},
		{[]string{"list", "--registry", "file:///" + t.TempDir()}, ExitUsage, "dynamodb://"},
		{[]string{"list", "--registry", "dynamodb://" + tableName}, ExitUsage, "no name"},
		{[]string{"list", "--registry", "dynamodb://" + tableName + "/acme?region=eu-central-1"}, ExitUsage, "dynamodb://originchain-registry/control"},
		{[]string{"list", "--registry", s.url}, ExitFailure, "127.0.0.1"},
		{[]string{"add"}, ExitUsage, "either an e-mail address or a webhook"},
		{with(mail, "--url", "https://h.example/"+token, "--secret-file", good), ExitUsage, "either"},
		{with(mail, "--secret-file", good), ExitUsage, "for a webhook"},
		{with(mail, "--up-to", "4"), ExitUsage, "severity 4"},
		{with(mail, "--up-to", "0"), ExitUsage, "severity 0"},
		{[]string{"add", "--id", "a/b", "--email", "ops@example.com"}, ExitUsage, `"a/b"`},
		{[]string{"add", "--id", "ops", "--email", "Ops <ops@example.com>"}, ExitUsage, "bare e-mail address"},
		{hook, ExitUsage, "--secret-file"},
		{with(hook, "--secret-file", short), ExitUsage, "16 bytes"},
		{with(hook, "--secret-file", open), ExitFailure, "chmod 600"},
		{with(hook, "--secret-file", good+"s"), ExitFailure, "no such file"},
		{with(hook, "--secret-file", good, "--url-file", good), ExitUsage, "not both"},
		{[]string{"add", "--id", "hook", "--url", "http://127.0.0.1/" + token, "--secret-file", good}, ExitUsage, "https"},
		{[]string{"add", "--id", "hook", "--url", "https://u:p@h.example/", "--secret-file", good}, ExitUsage, "password"},
		{[]string{"add", "--id", "hook", "--url", "https://h.example/" + strings.Repeat("x", maxFileBytes), "--secret-file", good}, ExitUsage, "at most 4096"},
		{mail, ExitUsage, "--registry"},
		{[]string{"remove"}, ExitUsage, "--id"},
		{[]string{"remove", "--id", "ops"}, ExitUsage, "--registry"},
	} {
		if code, out := s.run(c.args...); code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("%q: exit code %d, want %d and %q\n%s", c.args, code, c.code, c.want, out)
		}
	}
	// The variable is the function's.
	s.env = map[string]string{registryEnv: s.url}
	if code, out := s.run("list"); code != ExitFailure || !strings.Contains(out, "127.0.0.1") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{errors.New("x"), ExitFailure}, {incident.ErrSubscribed, ExitRefused}, {incident.ErrNoSubscriber, ExitRefused}, {incident.ErrMaxNames, ExitRefused},
		{incident.ErrMaxSubscribers, ExitRefused}, {fmt.Errorf("x: %w", incident.ErrConflict), ExitChanged}, {&registry.OutcomeUnknownError{Err: errors.New("x")}, ExitFailure},
	} {
		if got := code(c.err); got != c.want {
			t.Errorf("%v is %d, want %d", c.err, got, c.want)
		}
	}
}

func TestOptions(t *testing.T) {
	for of, want := range map[string]string{"": "secret-file", "list": "registry", "add": "url", "remove": "id"} {
		if !slices.Contains(Options(of), want) {
			t.Errorf("%q: %q", of, Options(of))
		}
	}
	if slices.Contains(Options("list"), "id") || Options("what") != nil {
		t.Errorf("%q, %q", Options("list"), Options("what"))
	}
}

// What is typed is done, and shown without what is secret.
func TestAddListRemove(t *testing.T) {
	s := at(t)
	if out := s.must("list"); out != "nobody is told of incidents\n" {
		t.Error(out)
	}
	s.must("add", "--id", "ops", "--email", "ops@example.com", "--up-to", "2")
	hook := []string{"add", "--id", "hook", "--url-file", s.file("https://h.example/" + token), "--secret-file", s.file(secret)}
	s.must(hook...)
	s.must(hook...) // the answer was lost
	const want = `ID    BY       ADDRESS          UP TO
hook  webhook  (not shown)      1
ops   email    ops@example.com  2
`
	if out := s.must("list"); out != want {
		t.Error(out)
	}
	var doc struct{ Subscribers []row }
	if err := json.Unmarshal([]byte(s.must("list", "--json")), &doc); err != nil || !slices.Equal(doc.Subscribers, []row{{"hook", byWebhook, "", 1}, {"ops", byEmail, "ops@example.com", 2}}) {
		t.Errorf("%+v, %v", doc, err)
	}
	if code, out := s.call("add", "--id", "ops", "--email", "two@example.com"); code != ExitRefused || !strings.Contains(out, "--replace") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if out := s.must("list"); out != want {
		t.Errorf("it was replaced:\n%s", out)
	}
	if out := s.must("add", "--id", "ops", "--email", "two@example.com", "--replace", "--json"); !strings.Contains(out, `"email": "two@example.com"`) {
		t.Error(out)
	}
	if code, out := s.call("remove", "--id", "oops"); code != ExitRefused {
		t.Errorf("exit code %d\n%s", code, out)
	}
	for range 2 {
		if out := s.must("remove", "--id", "hook"); out != "hook is told of nothing any more\n" {
			t.Error(out)
		}
	}
	if out := s.must("list"); out != "ID   BY     ADDRESS          UP TO\nops  email  two@example.com  1\n" {
		t.Error(out)
	}
	// An address that somebody put there by hand says nothing to a terminal.
	s.put("odd", `{"id":"odd","email":"\u001b[2Jx","up_to":1}`)
	if out := s.must("list"); !strings.Contains(out, `"\x1b[2Jx"`) {
		t.Error(out)
	}
	s.put("broken", `{"id":"broken","secret":"`+secret)
	if code, out := s.call("list"); code != ExitFailure || !strings.Contains(out, "subscribers/broken") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

// put writes a document as if by hand.
func (s *shell) put(id, body string) {
	s.t.Helper()
	if _, err := s.store().Save(s.t.Context(), "subscribers/"+id, 0, []byte(body)); err != nil {
		s.t.Fatal(err)
	}
}

// A notifier can list all that there may ever be.
func TestOneTooMany(t *testing.T) {
	if incident.MaxNames+incident.MaxSubscribers > registry.MaxListed {
		t.Errorf("%d ids, and some at once, of which %d are listed", incident.MaxNames, registry.MaxListed)
	}
	s := at(t)
	for n := range incident.MaxSubscribers {
		id := fmt.Sprint("s", n)
		s.put(id, `{"id":"`+id+`","email":"a@b.c","up_to":1}`)
	}
	more := []string{"add", "--id", "more", "--email", "a@b.c"}
	if code, out := s.call(more...); code != ExitRefused || !strings.Contains(out, "100 subscribers") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	s.must("add", "--id", "s7", "--email", "d@e.f", "--replace")
	s.must("remove", "--id", "s8")
	s.must(more...)
}

// Operators who type at the same time: of one id one is added, and nobody's own is lost.
func TestOperatorsAtOnce(t *testing.T) {
	s := at(t)
	const many = 6
	var one, own [many]int
	var work sync.WaitGroup
	for n := range many {
		work.Go(func() { one[n], _ = s.call("add", "--id", "one", "--email", fmt.Sprint(n, "@b.c")) })
		work.Go(func() { own[n], _ = s.call("add", "--id", fmt.Sprint("own-", n), "--email", "a@b.c") })
	}
	work.Wait()
	added := 0
	for n := range many {
		switch one[n] {
		case ExitOK:
			added++
		case ExitRefused, ExitChanged:
		default:
			t.Errorf("exit code %d", one[n])
		}
		if own[n] != ExitOK {
			t.Errorf("exit code %d", own[n])
		}
	}
	if out := s.must("list"); added != 1 || strings.Count(out, "@b.c") != many+1 {
		t.Errorf("%d were added under one id\n%s", added, out)
	}
}
