package documents

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"originchain/shared/lease"
	"originchain/test/systemctl"
	"originchain/writer/config"
	"originchain/writer/machine"
)

// roleVariable makes this test's executable a server; binVariable is where programs are.
const (
	roleVariable = "DOCUMENTS_TEST_ROLE"
	binVariable  = "DOCUMENTS_TEST_BIN"
)

func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) != "" {
		serve()
		return
	}
	dir, err := os.MkdirTemp("", "oc-documents-")
	if err == nil {
		err = errors.Join(systemctl.Build(dir), os.Setenv(binVariable, dir))
	}
	if err == nil {
		out, failed := exec.Command("go", "build", "-o", dir+"/", "originchain/writer/cmd/oc-node").CombinedOutput()
		if err = failed; err != nil {
			err = fmt.Errorf("build oc-node: %w\n%s", err, out)
		}
	}
	if err == nil {
		m.Run() // which keeps its code for the end
	}
	if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
		panic(err)
	}
}

// serve is a server that has its data directory open.
func serve() {
	if slices.Contains(os.Args, "--help") {
		set := pflag.NewFlagSet("", pflag.ContinueOnError)
		config.Register(set)
		if _, err := fmt.Fprintln(os.Stdout, set.FlagUsages()); err != nil {
			panic(err)
		}
		return
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	if _, err := vfs.Default.Lock(filepath.Join(os.Args[2], "LOCK")); err != nil {
		panic(err)
	}
	<-term
}

// document is what is checked of a document's content.
type document struct {
	SchemaVersion string
	Description   string
	Parameters    map[string]struct {
		Type, Description, AllowedPattern string
		MaxChars                          int
	}
	MainSteps []struct {
		Action, Name string
		Precondition map[string][]string
		Inputs       struct {
			TimeoutSeconds string
			RunCommand     []string
		}
	}
}

func parse(t *testing.T, d Document) (out document) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(d.Content))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&out); err != nil {
		t.Fatalf("%s: %v", d.Verb, err)
	}
	return out
}

// script is what Systems Manager would run, or that it refuses a parameter.
func (d document) script(given map[string]string) (string, error) {
	for name, p := range d.Parameters {
		v := given[name]
		if !regexp.MustCompile(p.AllowedPattern).MatchString(v) || p.MaxChars > 0 && len(v) > p.MaxChars {
			return "", fmt.Errorf("the parameter %s is refused: %.60q", name, v)
		}
	}
	return d.fill(given), nil
}

// fill puts values into the script, once.
func (d document) fill(given map[string]string) string {
	var pairs []string
	for name, v := range given {
		pairs = append(pairs, "{{ "+name+" }}", v)
	}
	return strings.NewReplacer(pairs...).Replace(strings.Join(d.MainSteps[0].Inputs.RunCommand, "\n"))
}

func all(t *testing.T) []Document {
	t.Helper()
	docs, err := All()
	if err != nil {
		t.Fatal(err)
	}
	return docs
}

// well is a value that each parameter takes.
func well() map[string]string { return map[string]string{"Epoch": "5", "Text": "aGVsbG8="} }

func TestDocuments(t *testing.T) {
	for _, doc := range all(t) {
		d := parse(t, doc)
		if d.SchemaVersion != "2.2" || d.Description == "" || len(d.MainSteps) != 1 || d.MainSteps[0].Action != "aws:runShellScript" || doc.Name("OriginChain-a") != "OriginChain-a-"+doc.Verb {
			t.Errorf("%s: %+v", doc.Verb, d)
		}
		// oc-node ends by itself before it is killed, and says what it knows.
		seconds, err := strconv.Atoi(d.MainSteps[0].Inputs.TimeoutSeconds)
		if err != nil || time.Duration(seconds)*time.Second <= machine.VerbTimeout {
			t.Errorf("%s: %d s, %v; oc-node takes up to %s", doc.Verb, seconds, err, machine.VerbTimeout)
		}
		want := []string{"Epoch"}
		if doc.Verb == "rewrite" {
			want = append(want, "Text")
			if most := base64.StdEncoding.EncodedLen(machine.MaxTextBytes); d.Parameters["Text"].MaxChars != most {
				t.Errorf("Text has up to %d characters, and a unit up to %d", d.Parameters["Text"].MaxChars, most)
			}
		}
		for _, name := range want {
			p := d.Parameters[name]
			if p.Type != "String" || p.Description == "" || !strings.HasPrefix(p.AllowedPattern, "^") || !strings.HasSuffix(p.AllowedPattern, "$") {
				t.Errorf("%s: %s: %+v", doc.Verb, name, p)
			}
		}
		if len(d.Parameters) != len(want) {
			t.Errorf("%s: %d parameters, want %v", doc.Verb, len(d.Parameters), want)
		}
	}
}

func TestScriptsPassShellcheck(t *testing.T) {
	for _, doc := range all(t) {
		script, err := parse(t, doc).script(well())
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("shellcheck", "--enable=all", "--severity=style", "-")
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v (package shellcheck)\n%s", doc.Verb, err, out)
		}
	}
}

// TestNoParameterIsReadByTheShell: what is more than a number or base64 is refused; and
// were it not, all but a quote would still be one word.
func TestNoParameterIsReadByTheShell(t *testing.T) {
	hostile := []string{"", " ", "$(touch /x)", "`id`", "5; id", "5 && id", "5|id", "5\nid", "5\n", "\n5", "5\r", "5'; id; '", `5"`, "5 --unit=x", "--help", "-1", "05", "0x5", "5>x", "*", "~", "{{ Text }}", "{{ssm:x}}", "५",
		strings.Repeat("9", 21), "aGVsbG8=;id", "aGVsbG8\n", "aGV$(id)", "aGVs'", "====", "a===", strings.Repeat("A", 22_000)}
	for _, doc := range all(t) {
		d := parse(t, doc)
		for name := range d.Parameters {
			for _, v := range hostile {
				given := well()
				given[name] = v
				number := name == "Text" && regexp.MustCompile(`^[0-9x]+$`).MatchString(v) // which is base64, too
				if script, err := d.script(given); err == nil && !number {
					t.Errorf("%s takes %q as its %s: %s", doc.Verb, v, name, script)
				}
			}
			for _, v := range hostile {
				if strings.Contains(v, "'") || len(v) > 100 {
					continue
				}
				given := well()
				given[name] = v
				text := strings.ReplaceAll(d.fill(given), "exec /opt/originchain/bin/oc-node", `printf '%s\0'`)
				out, err := exec.Command("bash", "-c", text).Output()
				if err != nil || !strings.Contains(string(out), "\x00"+v+"\x00") || strings.Count(string(out), "\x00") < 5 {
					t.Errorf("%s: %q as %s is not one word: %q, %v", doc.Verb, v, name, out, err)
				}
			}
		}
	}
}

// box is a machine whose root has a node's unit, and oc-node where the documents look.
type box struct {
	t    *testing.T
	sys  *systemctl.Machine
	docs map[string]document
	data string // as seen from here
}

func newBox(t *testing.T) *box {
	t.Helper()
	b := &box{t: t, sys: systemctl.New(t, systemctl.Options{Bin: os.Getenv(binVariable), Rooted: true}), docs: map[string]document{}}
	for _, doc := range all(t) {
		b.docs[doc.Verb] = parse(t, doc)
	}
	self, err := os.Executable()
	b.must(err)
	program, err := os.ReadFile(filepath.Join(os.Getenv(binVariable), "oc-node"))
	b.must(err)
	programs := filepath.Join(b.sys.Root, "opt/originchain/bin")
	b.data = filepath.Join(b.sys.Root, "var/lib/originchain/data")
	b.must(errors.Join(os.MkdirAll(programs, 0o755), os.MkdirAll(b.data, 0o700)))
	b.must(os.WriteFile(filepath.Join(programs, "oc-node"), program, 0o755))
	store, err := lease.OpenFile(vfs.Default, filepath.Join(b.sys.Root, "var/lib/control"))
	b.must(err)
	_, err = store.CompareAndSet(t.Context(), 0, lease.Record{Instance: "01ARZ3NDEKTSV4RRFFQ69G5FAV", Epoch: 5, Holder: "n1", URL: "http://n1", Line: []lease.Opening{{Epoch: 5, FirstLSN: 1}}})
	b.must(err)
	b.sys.WriteUnit("oc-http.service", "[Service]\nEnvironment="+roleVariable+"=server\nExecStart="+self+" --data-dir /var/lib/originchain/data \\\n --control file:///var/lib/control --node-id n1 --advertise http://n1\nRestart=always\n")
	return b
}

func (b *box) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// run runs a document's script on the machine, as root, with bash.
func (b *box) run(verb string, given map[string]string) (out map[string]any, code int) {
	b.t.Helper()
	script, err := b.docs[verb].script(given)
	b.must(err)
	cmd := b.sys.Command(b.t.Context(), "/bin/bash", "-c", script)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		b.t.Fatal(err)
	}
	if stdout.Len() >= 24_000 || stderr.Len() >= 8_000 {
		b.t.Errorf("%s printed %d and %d bytes, of which Systems Manager cuts some", verb, stdout.Len(), stderr.Len())
	}
	if err := json.Unmarshal(stdout.Bytes(), &out); err != nil {
		b.t.Fatalf("%s: %v: %q, %s", verb, err, stdout.String(), stderr.String())
	}
	return out, cmd.ProcessState.ExitCode()
}

// TestTheScriptsRun: each document, on a machine with a root of its own.
func TestTheScriptsRun(t *testing.T) {
	b := newBox(t)
	expect := func(verb string, given map[string]string, code int, want map[string]any) map[string]any {
		t.Helper()
		out, got := b.run(verb, given)
		for k, v := range want {
			if !cmp.Equal(out[k], v) {
				t.Errorf("%s: %s is %v, want %v: %v", verb, k, out[k], v, out)
			}
		}
		if got != code {
			t.Errorf("%s ended with %d, want %d: %v", verb, got, code, out)
		}
		return out
	}
	at := func(epoch string) map[string]string { return map[string]string{"Epoch": epoch} }
	expect("process", at("0"), 0, map[string]any{"epoch": 0.0, "running": false, "reaped": false, "pid": 0.0})
	expect("start", at("5"), 0, map[string]any{"epoch": 5.0, "running": true, "reaped": false})
	expect("stop", at("4"), 3, map[string]any{"epoch": 4.0, "refused": true, "record_epoch": 5.0, "held": false})
	expect("process", at("5"), 0, map[string]any{"epoch": 5.0, "running": true})
	read := expect("unit", at("0"), 0, map[string]any{"name": "/etc/systemd/system/oc-http.service"})
	text, err := base64.StdEncoding.DecodeString(fmt.Sprint(read["text"]))
	b.must(err)
	path := filepath.Join(b.sys.Etc, "oc-http.service")
	have, err := os.ReadFile(path)
	b.must(err)
	if diff := cmp.Diff(string(have), string(text)); diff != "" {
		t.Errorf("the unit (-file +printed):\n%s", diff)
	}
	place, err := lease.PlaceOf(b.data)
	b.must(err)
	expect("stop", at("5"), 0, map[string]any{"running": false, "reaped": true, "place": place, "held": true})
	// As large as a unit may be.
	next := string(have) + strings.Repeat("#", machine.MaxTextBytes-len(have)-1) + "\n"
	given := map[string]string{"Epoch": "5", "Text": base64.StdEncoding.EncodeToString([]byte(next))}
	expect("rewrite", given, 0, map[string]any{"epoch": 5.0})
	now, err := os.ReadFile(path)
	if err != nil || string(now) != next {
		t.Errorf("the unit was not rewritten: %v", err)
	}
	expect("unit", at("5"), 0, map[string]any{"text": given["Text"]})
	given["Text"] = "aGVsbG8="
	expect("rewrite", given, 1, map[string]any{"refused": false})
	expect("restart", at("5"), 0, map[string]any{"running": true, "reaped": false, "held": false})
	// What somebody holds on the machine, the documents do not let go.
	byHand := func(verb string) {
		t.Helper()
		out, err := b.sys.Command(t.Context(), "/opt/originchain/bin/oc-node", verb, "--unit", "oc-http.service", "--epoch", "5").CombinedOutput()
		if err != nil {
			t.Fatalf("%s by hand: %v\n%s", verb, err, out)
		}
	}
	byHand("stop")
	expect("stop", at("5"), 0, map[string]any{"reaped": true, "held": true})
	for _, verb := range []string{"start", "restart"} {
		if out := expect(verb, at("5"), 1, map[string]any{"refused": false, "held": true}); !strings.Contains(fmt.Sprint(out["error"]), "held by hand") {
			t.Errorf("%s: %v", verb, out)
		}
	}
	byHand("start")
	b.must(os.RemoveAll(filepath.Join(b.sys.Root, "var/lib/control")))
	expect("restart", at("5"), 3, map[string]any{"refused": true})
}
