package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"originchain/shared/durable"
)

// stepDisk is a disk whose calls are counted, and which is cut off before one of them:
// the command that made it is gone, and cleans nothing up; or it fails with an error.
type stepDisk struct {
	calls, cutAt int
	fails        error
}

var errDisk = errors.New("the disk is gone")

func (d *stepDisk) call() error {
	if d.calls++; d.calls != d.cutAt {
		return nil
	}
	if d.fails == nil {
		runtime.Goexit() // killed
	}
	return d.fails
}

type stepFile struct {
	d *stepDisk
	durable.File
}

func (f stepFile) Write(p []byte) (int, error) {
	half, err := f.File.Write(p[:len(p)/2]) // a kill may come half way
	if err = errors.Join(err, f.d.call()); err != nil {
		return half, err
	}
	n, err := f.File.Write(p[half:])
	return half + n, err
}
func (f stepFile) Sync() error  { return errors.Join(f.d.call(), f.File.Sync()) }
func (f stepFile) Close() error { return errors.Join(f.d.call(), f.File.Close()) }

func (d *stepDisk) disk(mode os.FileMode) durable.Disk {
	real := durable.OnOS(mode)
	return durable.Disk{
		Create: func(path string) (durable.File, error) {
			if err := d.call(); err != nil {
				return nil, err
			}
			f, err := real.Create(path)
			return stepFile{d, f}, err
		},
		Rename: func(from, to string) error {
			if err := d.call(); err != nil {
				return err
			}
			return real.Rename(from, to)
		},
		Remove:  real.Remove,
		SyncDir: func(path string) error { return errors.Join(d.call(), real.SyncDir(path)) },
	}
}

// TestRewritingIsOneStep: killed or failing at whichever step, the unit is whole, the
// server that runs is left alone, and the next rewrite does it all.
func TestRewritingIsOneStep(t *testing.T) {
	for _, fails := range []error{nil, errDisk} {
		steps := 0
		for cutAt := 1; ; cutAt++ {
			r := newRig(t, "server")
			pid := r.started()
			_, old, err := r.Text()
			r.must(err)
			next := []byte(strings.Replace(string(old), "--node-id n1", "--node-id n1 --region moon", 1))
			d := &stepDisk{cutAt: cutAt, fails: fails}
			r.disk = d.disk
			died := make(chan error, 1)
			go func() {
				err := errors.New("killed")
				defer func() { died <- err }()
				err = r.Rewrite(t.Context(), 5, next)
			}()
			err = <-died
			if d.calls < cutAt { // there is no such step
				r.must(err)
				break
			}
			steps++
			_, text, e := r.Text()
			r.must(e)
			if err == nil || fails != nil && !errors.Is(err, fails) || string(text) != string(old) && string(text) != string(next) {
				t.Errorf("cut at %d: %v, the unit is %q", cutAt, err, text)
			}
			r.disk = durable.OnOS
			r.must(r.Rewrite(t.Context(), 5, next))
			if n, last, _ := r.ups(); n != 1 || last != pid || !alive(pid) {
				t.Errorf("cut at %d: the server that runs was not left alone", cutAt)
			}
			_, text, e = r.Text()
			st, e2 := os.Stat(r.path())
			names, e3 := os.ReadDir(r.etc)
			r.must(errors.Join(e, e2, e3))
			if string(text) != string(next) || st.Mode().Perm() != 0o644 || len(names) != 1 {
				t.Errorf("cut at %d, then rewritten: %q, %v, %v", cutAt, text, st.Mode(), names)
			}
			// systemd has read it: a start by hand, which reads nothing, is by it.
			r.hand("restart", unitName)
			r.upAfter(1)
			if _, _, args := r.ups(); !strings.Contains(args, "--region moon") {
				t.Errorf("cut at %d, then rewritten: systemd starts %s", cutAt, args)
			}
		}
		if steps < 5 {
			t.Errorf("%d steps were cut, want create, write, sync, close, rename, sync of the directory", steps)
		}
	}
}

// TestTheSameTextIsReadAnew: who wrote it may have been killed before systemd knew.
func TestTheSameTextIsReadAnew(t *testing.T) {
	r := newRig(t, "server")
	r.started()
	_, old, err := r.Text()
	r.must(err)
	next := []byte(strings.Replace(string(old), "--node-id n1", "--node-id n1 --region moon", 1))
	r.must(os.WriteFile(r.path(), next, 0o600))
	r.must(r.Rewrite(t.Context(), 5, next))
	r.hand("restart", unitName)
	r.upAfter(1)
	if _, _, args := r.ups(); !strings.Contains(args, "--region moon") {
		t.Errorf("systemd starts %s", args)
	}
}

func TestATextThatDoesNotFitIsRefused(t *testing.T) {
	r := newRig(t, "server")
	_, old, err := r.Text()
	r.must(err)
	swap := func(old, with string) func(string) string {
		return func(s string) string { return strings.Replace(s, old, with, 1) }
	}
	for name, c := range map[string]struct {
		change func(string) string
		want   string
	}{
		"no unit":          {func(string) string { return "hello" }, "neither section nor assignment"},
		"empty":            {func(string) string { return "" }, "0 commands"},
		"another node":     {swap("--node-id n1", "--node-id n2"), "--node-id"},
		"no node":          {swap("--node-id n1", ""), "--node-id"},
		"another place":    {swap("--data-dir "+r.data, "--data-dir /srv/other"), "--data-dir"},
		"another record":   {swap("--control file://", "--control file:///other"), "--control"},
		"another instance": {swap("--node-id n1", "--node-id n1 --instance-id 01ARZ3NDEKTSV4RRFFQ69G5FAV"), "--instance-id"},
		"unknown flag":     {swap("--node-id n1", "--node-id n1 --what"), "--what"},
		"a bad value":      {swap("--node-id n1", "--node-id n1 --mode king"), "--mode"},
		"a word":           {swap("--node-id n1", "--node-id n1 more"), "more"},
		"a quote":          {swap("--node-id n1", "--node-id 'n1"), "not closed"},
		"too long":         {func(s string) string { return s + strings.Repeat("# x\n", MaxTextBytes/4) }, "16384"},
	} {
		err := r.Rewrite(t.Context(), 5, []byte(c.change(string(old))))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "nothing was changed") {
			t.Errorf("%s: %v", name, err)
		}
		if _, now, err := r.Text(); err != nil || string(now) != string(old) {
			t.Fatalf("%s: the unit is %q, %v", name, now, err)
		}
	}
	r.must(os.WriteFile(r.path(), append(old, strings.Repeat("# x\n", MaxTextBytes/4)...), 0o600))
	if _, _, err := r.Text(); err == nil || !strings.Contains(err.Error(), "there is room for") {
		t.Errorf("a unit that no answer has room for: %v", err)
	}
}

// TestUnitsAreReadAsSystemdReadsThem: the record and the directory of a node may be written
// with quotes, on several lines, by variables and specifiers.
func TestUnitsAreReadAsSystemdReadsThem(t *testing.T) {
	r := newRig(t, "server")
	spaced := filepath.Join(t.TempDir(), "a b")
	r.must(os.MkdirAll(spaced, 0o700))
	file := filepath.Join(t.TempDir(), "env")
	r.must(os.WriteFile(file, []byte("DATA='"+spaced+"'\nOC_CONTROL=file:///from/file\n"), 0o600))
	type read struct{ Node, Data, Control, Mode string }
	for name, c := range map[string]struct {
		text string
		want read
	}{
		"quotes and lines": {
			"[Service]\nExecStart=/opt/oc-server \\\n# between the lines\n  --node-id \"n1\" \\\n  '--data-dir=" + spaced + "' \\\n; and here\n  --control=file:///c --mode follower\n",
			read{"n1", spaced, "file:///c", "follower"}},
		"variables": {
			"[Service]\nEnvironment=ID=n1 \"DATA=" + spaced + "\"\nEnvironment=OC_CONTROL=file:///c\nExecStart=/opt/oc-server --node-id ${ID} --data-dir ${DATA}\n",
			read{"n1", spaced, "file:///c", "writer"}},
		"a file of variables": {
			"[Service]\nEnvironment=OC_CONTROL=file:///before OC_NODE_ID=n1\nEnvironmentFile=" + file + "\nExecStart=/opt/oc-server --data-dir ${DATA}\n",
			read{"n1", spaced, "file:///from/file", "writer"}},
		"a flag goes before a variable": {
			"[Service]\nEnvironment=OC_CONTROL=file:///c\nExecStart=/opt/oc-server --control file:///flag --data-dir /d --node-id n1\n",
			read{"n1", "/d", "file:///flag", "writer"}},
		"specifiers": {
			"[Service]\nExecStart=/opt/oc-server --data-dir %S/originchain/%N --node-id n%%1 --control file:///$$c\n",
			read{"n%1", "/var/lib/originchain/oc-http", "file:///$c", "writer"}},
		"a relative directory": {
			"[Service]\nWorkingDirectory=" + spaced + "\nExecStart=/opt/oc-server --data-dir data --node-id n1\n",
			read{"n1", spaced + "/data", "", "writer"}},
		"a list that begins anew": {
			"[Service]\nExecStart=/opt/old --data-dir /old\nExecStart=\nExecStart=@/opt/oc-server oc-server --data-dir /d --node-id n1\n",
			read{"n1", "/d", "", "writer"}},
	} {
		s, err := readServer("unit", unitName, []byte(c.text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(c.want, read{s.cfg.NodeID, s.dataDir, s.cfg.Control, s.cfg.Mode}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for name, text := range map[string]string{
		"unknown specifier": "[Service]\nExecStart=/opt/oc-server --data-dir %h\n",
		"no such file":      "[Service]\nEnvironmentFile=/does/not/exist\nExecStart=/opt/oc-server --data-dir /d\n",
		"two commands":      "[Service]\nExecStart=/a\nExecStart=/b\n",
		"a shell":           "[Service]\nExecStart=|/opt/oc-server --data-dir /d\n",
	} {
		if s, err := readServer("unit", unitName, []byte(text)); err == nil {
			t.Errorf("%s: %+v", name, s.cfg)
		}
	}
}

// TestSuchAUnitIsControlled: what was read so is what runs, and what is held.
func TestSuchAUnitIsControlled(t *testing.T) {
	r := newRig(t, "server")
	_, old, err := r.Text()
	r.must(err)
	_, control, _ := strings.Cut(string(old), "--control ")
	control, _, _ = strings.Cut(control, "\n")
	self, err := os.Executable()
	r.must(err)
	spaced := filepath.Join(t.TempDir(), "a b")
	r.data = spaced
	r.sys.WriteUnit(unitName, fmt.Sprintf("[Unit]\nDescription=it \\\n is\n[Service]\nEnvironment=%s=server 'DATA=%s'\nEnvironment=OC_CONTROL=%s\nExecStart=\"%s\" \\\n# here\n --node-id n1 \\\n '--data-dir' \\\n ${DATA}\n", roleVariable, spaced, control, self))
	r.started()
	if p, err := r.Stop(t.Context(), 5); err != nil || !p.Reaped || p.Place == "" {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestOfTwoReleases: a flag that one of both programs does not know is named, and which does
// not, before anything is changed.
func TestOfTwoReleases(t *testing.T) {
	r := newRig(t, "old")
	_, old, err := r.Text()
	r.must(err)
	swap := func(with string) []byte {
		return []byte(strings.Replace(string(old), "--node-id n1", "--node-id n1 "+with, 1))
	}
	for with, want := range map[string]string{
		"--region moon": "/machine.test does not know --region", // the server is older
		"--what now":    "oc-node does not know --what",         // it is newer
		"--mode king":   "--mode",                               // both know it
	} {
		err := r.Rewrite(t.Context(), 5, swap(with))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "nothing was changed") {
			t.Errorf("%s: %v", with, err)
		}
		if both := strings.Contains(fmt.Sprint(err), "are to be of one release"); both != !strings.Contains(with, "king") {
			t.Errorf("%s: %v", with, err)
		}
		if _, now, err := r.Text(); err != nil || string(now) != string(old) {
			t.Fatalf("%s: the unit is %q, %v", with, now, err)
		}
	}
	// A unit that this program cannot read is touched by no command.
	r.must(os.WriteFile(r.path(), swap("--what now"), 0o600))
	var refused *RefusedError
	if _, err := r.Stop(t.Context(), 5); !errors.As(err, &refused) || !strings.Contains(err.Error(), "oc-node does not know --what") {
		t.Errorf("%v", err)
	}
	// Nor is one written for a program that says nothing.
	r.must(os.WriteFile(r.path(), old, 0o600))
	silent := strings.Replace(string(old), "ExecStart="+os.Args[0], "ExecStart=/bin/false", 1)
	if err := r.Rewrite(t.Context(), 5, []byte(silent)); err == nil || !strings.Contains(err.Error(), "does not say which flags") {
		t.Errorf("%v", err)
	}
}
