package unitfile

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const example = `# OriginChain
[Unit]
Description=OriginChain
After=network-online.target

[Service]
Type=simple
Environment="OC_REGION=eu-central-1" OC_LOG=a\x20b
EnvironmentFile=-/etc/originchain/env
ExecStart=/usr/local/bin/oc-server \
  --mode follower \
# the leader, as of the last failover
  --leader-addr 10.0.1.7:7443 \
  --data-dir "/var/lib/origin chain" \
  --sync-replicas 1 --sync-strict \
  --llm-model='a "model"'
Restart=always

[Install]
WantedBy=multi-user.target
`

// takes is a part of oc-server's flags.
func takes(name string) (value, known bool) {
	switch name {
	case "mode", "leader-addr", "data-dir", "sync-replicas", "llm-model", "node-id", "listen":
		return true, true
	case "sync-strict", "tail-ship":
		return false, true
	}
	return false, false
}

func parse(t *testing.T, text string) *File {
	t.Helper()
	f, err := Parse("oc-http.service", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func argv(t *testing.T, f *File, env map[string]string) []string {
	t.Helper()
	c, err := f.Command()
	if err != nil {
		t.Fatal(err)
	}
	_, args, err := c.Argv(env, map[byte]string{'n': "oc-http.service"})
	if err != nil {
		t.Fatal(err)
	}
	return args
}

func TestCommandAndEnvironment(t *testing.T) {
	f := parse(t, example)
	want := []string{"/usr/local/bin/oc-server", "--mode", "follower", "--leader-addr", "10.0.1.7:7443", "--data-dir", "/var/lib/origin chain",
		"--sync-replicas", "1", "--sync-strict", `--llm-model=a "model"`}
	if d := cmp.Diff(want, argv(t, f, nil)); d != "" {
		t.Errorf("argv (-want +got):\n%s", d)
	}
	env, err := f.Environment(nil, func(path string) ([]byte, error) {
		if path != "/etc/originchain/env" {
			t.Errorf("it reads %s", path)
		}
		return nil, fs.ErrNotExist
	})
	if d := cmp.Diff(map[string]string{"OC_REGION": "eu-central-1", "OC_LOG": "a b"}, env); d != "" || err != nil {
		t.Errorf("environment (-want +got):\n%s%v", d, err)
	}
	if got := f.Value("Service", "Restart"); got != "always" {
		t.Errorf("Restart is %q", got)
	}
}

func TestFlagsAreChangedAndAllElseKeepsItsBytes(t *testing.T) {
	f := parse(t, example)
	change := Change{Drop: []string{"mode", "leader-addr"}}
	out, err := f.WithFlags(change, takes)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer("  --mode follower \\\n", "", "  --leader-addr 10.0.1.7:7443 \\\n", "").Replace(example)
	if d := cmp.Diff(want, string(out.Text())); d != "" {
		t.Errorf("the unit (-want +got):\n%s", d)
	}
	again, err := out.WithFlags(change, takes)
	if err != nil || again != out {
		t.Errorf("a second time it is changed again: %v", err)
	}
	set := Change{Set: []Setting{{"sync-replicas", "2"}, {"tail-ship", ""}, {"sync-strict", ""}, {"llm-model", "50% of $5"}}}
	if out, err = f.WithFlags(set, takes); err != nil {
		t.Fatal(err)
	}
	wantArgs := []string{"/usr/local/bin/oc-server", "--mode", "follower", "--leader-addr", "10.0.1.7:7443", "--data-dir", "/var/lib/origin chain",
		"--sync-strict", "--sync-replicas=2", "--tail-ship", "--llm-model=50% of $5"}
	if d := cmp.Diff(wantArgs, argv(t, out, nil)); d != "" {
		t.Errorf("argv (-want +got):\n%s%s", d, out.Text())
	}
	if again, err := out.WithFlags(set, takes); err != nil || again != out {
		t.Errorf("a second time it is changed again: %v", err)
	}
}

func TestVariablesAndSpecifiers(t *testing.T) {
	env := map[string]string{"OPTS": `--a "b c"`, "DIR": "/d"}
	cases := []struct {
		command string
		want    []string
		bad     string
	}{
		{`/x $OPTS ${DIR}/log $NONE "$DIR"`, []string{"/x", "--a", "b c", "/d/log", "/d"}, ""},
		{`/x $$DIR a$DIR %% %n`, []string{"/x", "$DIR", "a$DIR", "%", "oc-http.service"}, ""},
		{`:/x $OPTS`, []string{"/x", "$OPTS"}, ""},
		{`-@/x name a`, []string{"name", "a"}, ""},
		{`/x \x41\102\u00e9\s"\t"\;`, []string{"/x", "AB\u00e9 \t;"}, ""},
		{`/x "" ''`, []string{"/x", "", ""}, ""},
		{`/x a"b c"d`, []string{"/x", "ab cd"}, ""},
		{`+/x`, nil, "privileges"},
		{`/x %q`, nil, "%q"},
		{`/x ${A`, nil, "not closed"},
		{`/x %`, nil, "lone %"},
		{`@/x`, nil, "argument 0"},
	}
	for _, c := range cases {
		cmd, err := parse(t, "[Service]\nExecStart="+c.command+"\n").Command()
		if err != nil {
			t.Errorf("%s: %v", c.command, err)
			continue
		}
		_, args, err := cmd.Argv(env, map[byte]string{'n': "oc-http.service"})
		if c.bad != "" {
			if err == nil || !strings.Contains(err.Error(), c.bad) {
				t.Errorf("%s: %v, want an error with %q", c.command, err, c.bad)
			}
			continue
		}
		if d := cmp.Diff(c.want, args); d != "" || err != nil {
			t.Errorf("%s (-want +got):\n%s%v", c.command, d, err)
		}
	}
}

func TestWhatIsNotUnderstoodIsRefused(t *testing.T) {
	cases := []struct{ text, want string }{
		{"[Service\n", "u:1:"},
		{"\nExecStart=/x\n", "u:2: an assignment outside"},
		{"[Service]\n\nnonsense\n", "u:3:"},
		{"[Service]\n", "0 commands"},
		{"[Service]\nExecStart=/x\nExecStart=/y\n", "2 commands"},
		{"[Service]\nExecStart=/x ; /y\n", "u:2: ExecStart: several"},
		{"[Service]\nExecStart=x\n", "absolute"},
		{"[Service]\nExecStart=/x \"a\n", "quote"},
		{"[Service]\nExecStart=/x \\q\n", `\q`},
		{"[Service]\nExecStart=/x --unknown y\n", "--unknown"},
		{"[Service]\nExecStart=/x -m y\n", `"-m"`},
		{"[Service]\nExecStart=/x $OPTS\n", "$OPTS"},
		{"[Service]\nExecStart=/x --mode\n", "needs a value"},
		{"[Service]\nExecStart=/x -- y\n", "--"},
	}
	for _, c := range cases {
		f, err := Parse("u", []byte(c.text))
		if err == nil {
			_, err = f.WithFlags(Change{Drop: []string{"mode"}}, takes)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want an error with %q", c.text, err, c.want)
		}
	}
	if _, err := parse(t, "[Service]\nExecStart=/x ';' \\;\n").Command(); err != nil {
		t.Errorf("a quoted semicolon: %v", err)
	}
	if c, err := parse(t, "[Service]\nExecStart=/x\nExecStart=\nExecStart=/y\n").Command(); err != nil || c.Words[0] != "/y" {
		t.Errorf("an empty setting does not reset the list: %v %v", c, err)
	}
}

func TestEnvironmentFiles(t *testing.T) {
	const text = "# comment\n; comment\nA=1\nB = two words  \nC=\"a\\\"b\\n\" tail \nD='it is $x \\n'\nE=one\\\ntwo\nF=a\\ \\ \nG=\nno equals sign\nH=\"two\nlines\"\n\n I=x # y\n"
	want := map[string]string{"A": "1", "B": "two words", "C": `a"b\n tail`, "D": `it is $x \n`, "E": "onetwo", "F": "a  ", "G": "", "H": "two\nlines", "I": "x # y"}
	got, err := ParseEnvironment("env", []byte(text))
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("(-want +got):\n%s%v", d, err)
	}
	for _, bad := range []string{"A=1\n2B=x\n", "A=1\nB=\"x\n"} {
		var at *SyntaxError
		if _, err := ParseEnvironment("env", []byte(bad)); !errors.As(err, &at) || at.Line != 2 {
			t.Errorf("%q: %v", bad, err)
		}
	}
	f := parse(t, "[Service]\nEnvironment=A=1 B=2 C=%n\nEnvironmentFile=/e\nUnsetEnvironment=B C=other\n")
	env, err := f.Environment(map[byte]string{'n': "u"}, func(string) ([]byte, error) { return []byte("A=file\n"), nil })
	if d := cmp.Diff(map[string]string{"A": "file", "C": "u"}, env); d != "" || err != nil {
		t.Errorf("(-want +got):\n%s%v", d, err)
	}
	missing := func(string) ([]byte, error) { return nil, fs.ErrNotExist }
	if _, err := f.Environment(map[byte]string{'n': "u"}, missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is missing: %v", err)
	}
	if _, err := parse(t, "[Service]\nPassEnvironment=A\n").Environment(nil, missing); err == nil {
		t.Error("PassEnvironment is ignored")
	}
}

// styled writes a word in one of the ways a person might.
func styled(r *rand.Rand, s string) string {
	escaped := strings.NewReplacer("%", "%%", "$", "$$").Replace(s)
	switch r.IntN(3) {
	case 0:
		return quoteWord(s)
	case 1:
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(escaped) + `"`
	}
	var b strings.Builder
	for i := range len(escaped) {
		c := escaped[i]
		if strings.IndexByte(" \t\\\"';#", c) >= 0 || r.IntN(8) == 0 && c != '%' && c != '$' {
			fmt.Fprintf(&b, `\x%02x`, c)
		} else {
			b.WriteByte(c)
		}
	}
	if b.Len() == 0 {
		return `""`
	}
	return b.String()
}

// Whatever a command looks like, and however it is written over lines, dropping and
// setting flags gives the command that was meant, and nothing else of the file changes.
func TestChangesAreWhatWasMeant(t *testing.T) {
	values := []string{"x", "", "a b", `q"uo'te`, `back\slash`, "100%", "$HOME", "${A}", ";", "é", "10.0.0.1:7443", "--mode", "#c"}
	names := []string{"mode", "leader-addr", "data-dir", "sync-replicas", "llm-model", "sync-strict", "tail-ship"}
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		type flag struct{ words []string }
		var flags []flag
		used := map[string]bool{}
		text := "[Unit]\nDescription=x\n[Service]\nExecStart=/bin/oc-server"
		sep := func() {
			switch r.IntN(4) {
			case 0:
				text += " \\\n  "
			case 1:
				text += "\\\n# a comment \\\n\t"
			case 2:
				text += "  "
			default:
				text += " "
			}
		}
		for range r.IntN(8) {
			name, value := names[r.IntN(len(names))], values[r.IntN(len(values))]
			used[name] = true
			var ws []string
			switch takesIt, _ := takes(name); {
			case !takesIt:
				ws = []string{"--" + name}
			case r.IntN(2) == 0:
				ws = []string{"--" + name, value}
			default:
				ws = []string{"--" + name + "=" + value}
			}
			for _, w := range ws {
				sep()
				text += styled(r, w)
			}
			flags = append(flags, flag{ws})
		}
		if r.IntN(4) == 0 {
			text += " \\\n"
		}
		const tail = "\n[Install]\nWantedBy=multi-user.target\n"
		f := parse(t, text+tail)
		drop := names[r.IntN(len(names))]
		set := Setting{Name: names[r.IntN(len(names))], Value: values[r.IntN(len(values))]}
		if takesIt, _ := takes(set.Name); !takesIt {
			set.Value = ""
		}
		change := Change{Drop: []string{drop}, Set: []Setting{set}}
		if drop == set.Name {
			change.Drop = nil
		}
		out, err := f.WithFlags(change, takes)
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, text)
		}
		before, after := map[string]int{}, map[string]int{}
		for _, fl := range flags {
			name, _, _ := strings.Cut(fl.words[0][2:], "=")
			if !slices.Contains(change.Drop, name) && name != set.Name {
				before[strings.Join(fl.words, "\x00")]++
			}
		}
		c, err := out.Command()
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, out.Text())
		}
		got, err := c.Flags(takes)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		args := argv(t, out, map[string]string{"A": "wrong", "HOME": "wrong"})
		sets := 0
		for _, fl := range got {
			ws := args[fl.words[0] : fl.words[len(fl.words)-1]+1]
			if fl.Name != set.Name {
				after[strings.Join(ws, "\x00")]++
				continue
			}
			sets++
			if takesIt, _ := takes(set.Name); takesIt && ws[len(ws)-1] != set.Value && ws[0] != "--"+set.Name+"="+set.Value {
				t.Fatalf("seed %d: %q, want the value %q\n%s\n%s", seed, ws, set.Value, text, out.Text())
			}
		}
		if sets != 1 || !maps.Equal(before, after) {
			t.Fatalf("seed %d: change %+v: %d of it, before %v, after %v\n%s\n%s", seed, change, sets, before, after, text, out.Text())
		}
		if !strings.HasSuffix(string(out.Text()), tail) || !strings.HasPrefix(string(out.Text()), "[Unit]\nDescription=x\n[Service]\nExecStart=/bin/oc-server") {
			t.Fatalf("seed %d: more was changed\n%s\n%s", seed, text, out.Text())
		}
		if again, err := out.WithFlags(change, takes); err != nil || again != out {
			t.Fatalf("seed %d: a second time it is changed again (%v)\n%s", seed, err, out.Text())
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(example))
	f.Fuzz(func(t *testing.T, text []byte) {
		u, err := Parse("u", text)
		if err != nil {
			return
		}
		if string(u.Text()) != string(text) {
			t.Fatal("the file is another one")
		}
		c, err := u.Command()
		if err != nil {
			return
		}
		if _, err := u.WithFlags(Change{Drop: []string{"mode"}, Set: []Setting{{"node-id", "n"}}}, takes); err != nil {
			t.Logf("%q: %v", c.Words, err)
		}
	})
}

func TestEntriesAreAllAssignmentsInOrder(t *testing.T) {
	got := parse(t, "[Unit]\nDescription=a\n\n[Service]\nExecStart=/bin/a \\\n  b\nUser=x\nUser=\n").Entries()
	want := []Entry{{"Unit", "Description", "a", 2}, {"Service", "ExecStart", "/bin/a    b", 5}, {"Service", "User", "x", 7}, {"Service", "User", "", 8}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestResolveKnowsOnlyTheSpecifiersGiven(t *testing.T) {
	if got, err := Resolve("/var/%p 100%%", map[byte]string{'p': "oc-http"}); err != nil || got != "/var/oc-http 100%" {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{"/var/%i", "50%"} {
		if got, err := Resolve(bad, nil); err == nil {
			t.Errorf("%q became %q", bad, got)
		}
	}
}
