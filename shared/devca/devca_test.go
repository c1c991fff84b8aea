package devca

import (
	"bytes"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"originchain/shared/mtls"
)

func options(dir string) Options {
	return Options{Dir: dir, Nodes: DefaultNodes(), Days: 90, Now: time.Now()}
}

// contents are all files below dir.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	tree := os.DirFS(dir)
	err := fs.WalkDir(tree, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(tree, p)
		out[p] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func make1(t *testing.T, o Options) (did map[string]string) {
	t.Helper()
	steps, err := Make(o)
	if err != nil {
		t.Fatal(err)
	}
	return byFile(t, o.Dir, steps)
}

// byFile is what was done, by the file's path in dir.
func byFile(t *testing.T, dir string, steps []Step) map[string]string {
	t.Helper()
	did := make(map[string]string)
	for _, s := range steps {
		name, err := filepath.Rel(dir, s.File)
		if err != nil || s.Note == "" || did[name] != "" {
			t.Errorf("%+v: %v", s, err)
		}
		did[name] = s.Did
	}
	return did
}

// all says the same of every file of the default nodes, but for exceptions.
func all(did string, exceptions ...string) map[string]string {
	out := make(map[string]string)
	for _, name := range []string{"ca.key", "ca.crt", "writer/ca.crt", "writer/node.key", "writer/node.crt", "follower/ca.crt", "follower/node.key", "follower/node.crt"} {
		out[name] = did
	}
	for i := 0; i < len(exceptions); i += 2 {
		out[exceptions[i]] = exceptions[i+1]
	}
	return out
}

// usable loads the directory of each node as a server does.
func usable(t *testing.T, dir string, nodes ...string) {
	t.Helper()
	for _, node := range nodes {
		id, err := mtls.Load(filepath.Join(dir, node), nil)
		if err != nil {
			t.Error(err)
		} else if id.Self() != (mtls.Peer{Node: node}) {
			t.Errorf("%s is %s", node, id.Self())
		}
	}
}

func leaf(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	cert, err := readCertificate(path)
	if err != nil || cert == nil {
		t.Fatal(cert, err)
	}
	return cert
}

func TestANewDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "certs")
	o := options(dir)
	o.Nodes = append(o.Nodes, "writer") // named twice, made once
	if diff := cmp.Diff(all("made"), make1(t, o)); diff != "" {
		t.Error(diff)
	}
	usable(t, dir, DefaultNodes()...)
	for name, want := range map[string]os.FileMode{".": 0o700, "writer": 0o700, "ca.key": 0o600, "ca.crt": 0o644, "writer/node.key": 0o600, "writer/node.crt": 0o644, "writer/ca.crt": 0o644} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
	if files := contents(t, dir); len(files) != len(all("")) || files["ca.crt"] != files["writer/ca.crt"] || files["writer/node.key"] == files["follower/node.key"] {
		t.Errorf("%d files", len(files))
	}
	cert := leaf(t, filepath.Join(dir, "writer", mtls.CertFile))
	if got := hosts(cert); !slices.Equal(got, DefaultHosts()) {
		t.Errorf("for %v", got)
	}
	if left := cert.NotAfter.Sub(o.Now); left > 90*day || left < 90*day-time.Minute {
		t.Errorf("good for %s", left)
	}
	if cert.IsCA || cert.CheckSignatureFrom(leaf(t, filepath.Join(dir, mtls.CAFile))) != nil {
		t.Error("the certificate is not as it must be")
	}
}

func TestASecondRunChangesNothing(t *testing.T) {
	dir := t.TempDir()
	o := options(dir)
	make1(t, o)
	before := contents(t, dir)
	o.Now = o.Now.Add(59 * day)
	o.Hosts = []string{"localhost", "0:0:0:0:0:0:0:1"} // which it has
	if diff := cmp.Diff(all("kept"), make1(t, o)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(before, contents(t, dir)); diff != "" {
		t.Error(diff)
	}
}

// TestWhatIsMissingOrEndingIsMade changes a sound directory in one way at a time.
func TestWhatIsMissingOrEndingIsMade(t *testing.T) {
	remove := func(names ...string) func(*testing.T, string, *Options) {
		return func(t *testing.T, dir string, _ *Options) {
			for _, name := range names {
				if err := os.Remove(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	later := func(d time.Duration) func(*testing.T, string, *Options) {
		return func(_ *testing.T, _ string, o *Options) { o.Now = o.Now.Add(d) }
	}
	for name, c := range map[string]struct {
		do   func(t *testing.T, dir string, o *Options)
		want map[string]string
		// same are files that must not have changed.
		same []string
	}{
		"no node.crt":  {remove("writer/node.crt"), all("kept", "writer/node.crt", "made"), []string{"ca.key", "ca.crt", "writer/node.key", "follower/node.crt"}},
		"no node.key":  {remove("writer/node.key"), all("kept", "writer/node.key", "made", "writer/node.crt", "renewed"), []string{"ca.key", "ca.crt", "follower/node.crt"}},
		"no pair":      {remove("writer/node.key", "writer/node.crt"), all("kept", "writer/node.key", "made", "writer/node.crt", "made"), []string{"ca.key", "follower/node.crt"}},
		"no copy":      {remove("writer/ca.crt"), all("kept", "writer/ca.crt", "made"), []string{"writer/ca.crt", "writer/node.crt"}},
		"no authority": {remove("ca.crt", "writer/ca.crt"), all("kept", "ca.crt", "made", "writer/ca.crt", "made", "follower/ca.crt", "replaced"), []string{"ca.key", "writer/node.key"}},
		"ending":       {later(61 * day), all("kept", "writer/node.crt", "renewed", "follower/node.crt", "renewed"), []string{"ca.key", "ca.crt", "writer/node.key", "writer/ca.crt"}},
		"ended":        {later(200 * day), all("kept", "writer/node.crt", "renewed", "follower/node.crt", "renewed"), []string{"ca.key", "ca.crt", "writer/node.key"}},
		"the authority is ending": {later(14 * 365 * day), all("kept", "ca.crt", "renewed", "writer/ca.crt", "replaced", "follower/ca.crt", "replaced", "writer/node.crt", "renewed", "follower/node.crt", "renewed"),
			[]string{"ca.key", "writer/node.key"}},
		"one more host": {func(_ *testing.T, _ string, o *Options) {
			o.Nodes, o.Hosts = []string{"writer"}, []string{"db.example", "10.0.0.7", "db.example"}
		},
			map[string]string{"ca.key": "kept", "ca.crt": "kept", "writer/ca.crt": "kept", "writer/node.key": "kept", "writer/node.crt": "renewed"}, []string{"writer/node.key", "follower/node.crt"}},
		"one more node": {func(_ *testing.T, _ string, o *Options) { o.Nodes = []string{"third"} },
			map[string]string{"ca.key": "kept", "ca.crt": "kept", "third/ca.crt": "made", "third/node.key": "made", "third/node.crt": "made"}, []string{"writer/node.key", "writer/node.crt"}},
		"an open key": {func(t *testing.T, dir string, _ *Options) {
			for _, name := range []string{"ca.key", "writer/node.key"} {
				if err := os.Chmod(filepath.Join(dir, name), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}, all("kept", "ca.key", "closed", "writer/node.key", "closed"), []string{"ca.key", "writer/node.key", "writer/node.crt"}},
		"an unfinished file": {func(t *testing.T, dir string, _ *Options) {
			for _, name := range []string{".new-1", "writer/.new-2"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte("key"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}, all("kept"), []string{"writer/node.crt"}},
		"a second authority beside it": {func(t *testing.T, dir string, _ *Options) {
			other := t.TempDir()
			make1(t, options(other))
			both := contents(t, other)["ca.crt"] + contents(t, dir)["ca.crt"]
			if err := os.WriteFile(filepath.Join(dir, "writer/ca.crt"), []byte(both), 0o644); err != nil {
				t.Fatal(err)
			}
		}, all("kept"), []string{"writer/node.crt"}},
		"no key of the authority": {remove("ca.key"), all("kept"), []string{"ca.crt", "writer/node.crt"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o := options(dir)
			make1(t, o)
			before := contents(t, dir)
			c.do(t, dir, &o)
			if diff := cmp.Diff(c.want, make1(t, o)); diff != "" {
				t.Error(diff)
			}
			after := contents(t, dir)
			for _, name := range c.same {
				if name != "ca.key" && before[name] != after[name] {
					t.Errorf("%s was changed", name)
				}
			}
			for name := range after {
				if strings.Contains(name, ".new-") {
					t.Errorf("%s is left over", name)
				}
			}
			if time.Until(o.Now) < day { // servers go by the clock
				usable(t, dir, o.Nodes...)
			}
			// And the next run has nothing to do.
			for name, did := range make1(t, o) {
				if did != "kept" {
					t.Errorf("the next run: %s %s", name, did)
				}
			}
		})
	}
}

// TestARenewedAuthorityIsTheSame: nodes that still have the old one, and nodes
// that have the new one, know each other.
func TestARenewedAuthorityIsTheSame(t *testing.T) {
	dir := t.TempDir()
	o := options(dir)
	make1(t, o)
	writer := leaf(t, filepath.Join(dir, "writer/node.crt"))
	old := leaf(t, filepath.Join(dir, "ca.crt"))
	o.Now = o.Now.Add(14 * 365 * day)
	make1(t, o)
	renewed := leaf(t, filepath.Join(dir, "ca.crt"))
	if renewed.Equal(old) || renewed.Subject.String() != old.Subject.String() {
		t.Error("the authority was not renewed")
	}
	for _, c := range []struct{ ca, cert *x509.Certificate }{{renewed, writer}, {old, leaf(t, filepath.Join(dir, "writer/node.crt"))}} {
		roots := x509.NewCertPool()
		roots.AddCert(c.ca)
		at := c.cert.NotBefore.Add(time.Minute)
		if c.ca.NotBefore.After(at) {
			at = c.ca.NotBefore.Add(time.Minute)
		}
		if c.cert.NotAfter.Before(at) {
			if err := c.cert.CheckSignatureFrom(c.ca); err != nil {
				t.Error(err)
			}
			continue
		}
		if _, err := c.cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: at}); err != nil {
			t.Error(err)
		}
	}
}

func TestACertificateDoesNotOutliveItsAuthority(t *testing.T) {
	dir := t.TempDir()
	o := options(dir)
	make1(t, o)
	o.Now, o.Days, o.Nodes = o.Now.Add(13*365*day), MaxDays, []string{"late"}
	make1(t, o)
	if cert, ca := leaf(t, filepath.Join(dir, "late/node.crt")), leaf(t, filepath.Join(dir, "ca.crt")); !cert.NotAfter.Equal(ca.NotAfter) {
		t.Errorf("until %s, the authority until %s", cert.NotAfter, ca.NotAfter)
	}
}

// TestWhatIsSomebodysIsRefused: nothing may be changed by a run that refuses.
func TestWhatIsSomebodysIsRefused(t *testing.T) {
	other := t.TempDir()
	make1(t, options(other))
	foreign := contents(t, other)
	replace := func(name, content string) func(map[string]string) {
		return func(files map[string]string) { files[name] = content }
	}
	from := func(name, source string) func(map[string]string) {
		return func(files map[string]string) { files[name] = files[source] }
	}
	for name, change := range map[string]func(files map[string]string){
		"ca.crt is none":               replace("ca.crt", "x"),
		"ca.key is none":               replace("ca.key", "x"),
		"ca.crt is a key":              from("ca.crt", "ca.key"),
		"ca.key is a certificate":      from("ca.key", "ca.crt"),
		"ca.crt is no authority":       from("ca.crt", "writer/node.crt"),
		"ca.key is another's":          from("ca.key", "writer/node.key"),
		"the copy is none":             replace("writer/ca.crt", "x"),
		"the copy is another's":        replace("writer/ca.crt", foreign["ca.crt"]),
		"node.crt is none":             replace("writer/node.crt", "x"),
		"node.key is none":             replace("writer/node.key", "x"),
		"node.crt is another node's":   from("writer/node.crt", "follower/node.crt"),
		"node.crt is another's":        replace("writer/node.crt", foreign["writer/node.crt"]),
		"node.crt is the authority's":  from("writer/node.crt", "ca.crt"),
		"node.key is another's":        from("writer/node.key", "follower/node.key"),
		"the authority is another one": func(files map[string]string) { files["ca.crt"], files["ca.key"] = foreign["ca.crt"], foreign["ca.key"] },
	} {
		dir := t.TempDir()
		make1(t, options(dir))
		files := contents(t, dir)
		change(files)
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Make(options(dir)); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "move it away") {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(files, contents(t, dir)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestWithoutTheAuthoritysKeyNothingIsSigned(t *testing.T) {
	dir := t.TempDir()
	make1(t, options(dir))
	if err := os.Remove(filepath.Join(dir, CAKeyFile)); err != nil {
		t.Fatal(err)
	}
	before := contents(t, dir)
	for name, change := range map[string]func(*Options){
		"ending":                  func(o *Options) { o.Now = o.Now.Add(61 * day) },
		"the authority is ending": func(o *Options) { o.Now = o.Now.Add(14 * 365 * day) },
		"another host":            func(o *Options) { o.Hosts = []string{"h"} },
	} {
		o := options(dir)
		change(&o)
		if _, err := Make(o); err == nil || errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), CAKeyFile) {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(before, contents(t, dir)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	o := options(dir)
	o.Nodes = []string{"third"}
	if _, err := Make(o); err == nil || !strings.Contains(err.Error(), CAKeyFile) {
		t.Errorf("a new node: %v", err)
	}
}

// TestARunThatWasKilledIsFinishedByTheNext: files are made in the order of the
// steps, each by one rename, so a run that was killed leaves a beginning of it.
func TestARunThatWasKilledIsFinishedByTheNext(t *testing.T) {
	whole := t.TempDir()
	steps, err := Make(options(whole))
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(steps) + 1 {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
			t.Fatal(err)
		}
		want := make(map[string]string)
		for i, s := range steps {
			name, err := filepath.Rel(whole, s.File)
			if err != nil {
				t.Fatal(err)
			}
			if want[name] = "kept"; i >= n {
				want[name] = "made"
				if err := os.Remove(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			} else if strings.HasSuffix(name, ".key") {
				if err := os.Chmod(filepath.Join(dir, name), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		if diff := cmp.Diff(want, make1(t, options(dir))); diff != "" {
			t.Errorf("%d: %s", n, diff)
		}
		usable(t, dir, DefaultNodes()...)
	}
}

func TestOneRunAtATime(t *testing.T) {
	dir := t.TempDir()
	unlock, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Make(options(dir)); err == nil || !strings.Contains(err.Error(), "another run") {
		t.Errorf("%v", err)
	}
	unlock()
	make1(t, options(dir))
}

func TestADiskThatCannotBeWrittenLeavesNothingHalf(t *testing.T) {
	dir := t.TempDir()
	// A directory in the place of a file cannot be replaced by a rename.
	if err := os.MkdirAll(filepath.Join(dir, "target"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := put(filepath.Join(dir, "target"), []byte("x"), keyMode); err == nil {
		t.Error("no error")
	}
	if err := put(filepath.Join(dir, "none", "target"), []byte("x"), keyMode); err == nil {
		t.Error("no error")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("%v %v", entries, err)
	}
}

func TestOptionsAreCheckedInOnePass(t *testing.T) {
	faults := Options{Nodes: []string{"", "a/b", "..", ".hidden", strings.Repeat("x", 65)}, Hosts: []string{"", "h:1", "a b", "-h"}, Days: -1}.Validate()
	text := strings.Join(faults, "\n")
	for _, want := range []string{"--dir", `--node ""`, `"a/b"`, `".."`, `".hidden"`, "xxx", `--host ""`, `"h:1"`, `"a b"`, `"-h"`, "--days -1"} {
		if !strings.Contains(text, want) {
			t.Errorf("nothing about %s in:\n%s", want, text)
		}
	}
	for _, o := range []Options{{Dir: "d", Days: 1}, {Dir: "d", Nodes: []string{"n"}, Days: MaxDays + 1}} {
		if len(o.Validate()) != 1 {
			t.Errorf("%+v: %v", o, o.Validate())
		}
	}
	sound := Options{Dir: "d", Nodes: []string{"node-1_x.Y", strings.Repeat("x", 64)}, Hosts: []string{"h", "a.b.example", "*.example.net", "10.0.0.1", "fe80::1", "_a"}, Days: MaxDays}
	if faults := sound.Validate(); len(faults) > 0 {
		t.Error(faults)
	}
	if _, err := Make(Options{}); err == nil {
		t.Error("made without options")
	}
}

func TestSerialNumbersDiffer(t *testing.T) {
	seen := make(map[string]bool)
	for range 100 {
		n := serial()
		if n.Sign() <= 0 || len(n.Bytes()) != 16 || seen[string(n.Bytes())] {
			t.Fatal(n)
		}
		seen[string(n.Bytes())] = true
	}
	if bytes.Equal(serial().Bytes(), serial().Bytes()) {
		t.Error("equal")
	}
}
