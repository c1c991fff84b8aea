package stack_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"originchain/infra/config"
	"originchain/shared/unitfile"
	"originchain/test/systemctl"
)

// startsWithin bounds the wait for what a machine starts by itself; nothing is judged by it.
const startsWithin = time.Minute

// started is a machine of EC2 with a root, a network and volumes of its own, which has not
// been given its user data yet.
type started struct {
	t      *testing.T
	sys    *systemctl.Machine
	cloud  *cloud
	script string
	values map[string]string
}

// commands are those of every machine of a test, besides what this machine has.
func commands(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("user data is run in a root of its own, with volumes that are mounted: it takes root")
	}
	for tool, pkg := range map[string]string{"mkfs.xfs": "xfsprogs", "xfs_admin": "xfsprogs", "xfs_growfs": "xfsprogs", "blkid": "util-linux", "unshare": "util-linux", "nsenter": "util-linux", "mountpoint": "util-linux",
		"ip": "iproute2", "curl": "curl", "cmp": "diffutils", "useradd": "passwd"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("user data is run as a machine runs it, and this one lacks %s (on Debian: apt-get install %s)", tool, pkg)
		}
	}
	if _, err := os.Stat("/usr/bin/python3"); err != nil {
		t.Fatalf("user data is run as a machine runs it, with the system's own python3 (on Debian: apt-get install python3): %v", err)
	}
	dir := t.TempDir()
	if err := systemctl.Build(dir); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"aws": awsCommand, "journalctl": journalCommand} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

var setting = regexp.MustCompile(`(?m)^([A-Z_]+)='(.*)'$`)

// newStarted makes a machine for a node. What CloudFormation alone knows has values here.
func newStarted(t *testing.T, bin string, c *config.Config, tm template, i int, content string) *started {
	t.Helper()
	script := tm.script(t, i)
	known := func(script string) map[string]string {
		out := map[string]string{}
		for _, m := range setting.FindAllStringSubmatch(script, -1) {
			out[m[1]] = m[2]
		}
		return out
	}
	was := known(script)
	script = strings.NewReplacer(was["STATE_VOLUME"], "vol-0a", was["LOG_VOLUME"], "vol-0b", was["INTERFACE"], "eni-0c", was["ADDRESS"], "10.0.0.9", "<InterfaceA.PrimaryPrivateIpAddress>", "10.0.0.1").Replace(script)
	m := &started{t: t, script: script, values: known(script)}
	if left := regexp.MustCompile(`<[A-Z]\w*[.>]`).FindString(script); left != "" {
		t.Fatalf("%s has no value in this test", left)
	}
	state, log := disk(t, content), disk(t, "")
	m.sys = systemctl.New(t, systemctl.Options{Bin: bin, Wrap: []string{"unshare", "--net"}, Rooted: true, Sealed: true, Devices: []string{state, log}})
	m.cloud = &cloud{t: t, root: m.sys.Root, machine: "i-0123456789abcdef0", region: c.Region, binaries: m.values["BINARIES"], group: m.values["LOG_GROUP"], iface: "eni-0c",
		volumes:         map[string]string{"vol-0a": state, "vol-0b": log},
		secrets:         map[string]string{m.values["ADMIN_SECRET"]: strings.Repeat("0", 40), m.values["CERTIFICATES_SECRET"]: certificates},
		attachInterface: func() error { return m.enter("ip", "address", "add", "10.0.0.9/20", "dev", "lo") },
		ran:             make(chan []string, 16)}
	m.put("var/lib/cloud/data/instance-id", "i-0123456789abcdef0\n")
	m.put("etc/fstab", "LABEL=/ / xfs defaults,noatime,noauto 1 1\n")
	m.network()
	return m
}

// network is what a machine has of it at each start.
func (m *started) network() {
	m.t.Helper()
	m.must("ip", "link", "set", "lo", "up")
	m.must("ip", "address", "add", metadataAddress+"/32", "dev", "lo")
	s := m.cloud.serve(m.sys.Pid())
	m.t.Cleanup(s.Close)
}

func (m *started) put(name, text string) {
	m.t.Helper()
	at := filepath.Join(m.sys.Root, name)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

func (m *started) enter(name string, args ...string) error {
	out, err := m.sys.Enter(m.t.Context(), name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %q: %w\n%s", name, args, err, out)
	}
	return nil
}

func (m *started) must(name string, args ...string) {
	m.t.Helper()
	if err := m.enter(name, args...); err != nil {
		m.t.Fatal(err)
	}
}

// userData runs it as cloud-init does: from a file, by its first line.
func (m *started) userData() (string, error) {
	m.t.Helper()
	m.put("var/lib/cloud/instance/scripts/part-001", m.script)
	if err := os.Chmod(filepath.Join(m.sys.Root, "var/lib/cloud/instance/scripts/part-001"), 0o700); err != nil {
		m.t.Fatal(err)
	}
	out, err := m.sys.Enter(m.t.Context(), "/var/lib/cloud/instance/scripts/part-001").CombinedOutput()
	return string(out), err
}

// left is what is in directories of the machine, as its services see it: mode, owner and name.
func (m *started) left(dirs ...string) (out []string) {
	m.t.Helper()
	root := fmt.Sprintf("/proc/%d/root", m.sys.Pid())
	for _, d := range dirs {
		err := filepath.WalkDir(root+d, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			st := info.Sys().(*syscall.Stat_t)
			line := fmt.Sprintf("%v %d:%d %s", info.Mode(), st.Uid, st.Gid, strings.TrimPrefix(path, root))
			if to, err := os.Readlink(path); err == nil {
				line += " -> " + to
			}
			out = append(out, line)
			return nil
		})
		if err != nil {
			m.t.Fatal(err)
		}
	}
	return out
}

// whatIsWritten is what user data leaves, before anything that it starts has run.
const whatIsWritten = `drwxr-xr-x 0:0 /etc/originchain
-rw-r--r-- 0:0 /etc/originchain/machine.env
drwxr-xr-x 0:0 /etc/systemd/system
drwxr-xr-x 0:0 /etc/systemd/system/multi-user.target.wants
Lrwxrwxrwx 0:0 /etc/systemd/system/multi-user.target.wants/oc-boot.service -> /etc/systemd/system/oc-boot.service
-rw-r--r-- 0:0 /etc/systemd/system/oc-boot.service
-rw-r--r-- 0:0 /etc/systemd/system/oc-http.service
-rw-r--r-- 0:0 /etc/systemd/system/oc-logs.service
-rw-r--r-- 0:0 /etc/systemd/system/oc-logs.timer
-rw-r--r-- 0:0 /etc/systemd/system/oc-node.service
-rw-r--r-- 0:0 /etc/systemd/system/oc-secrets.service
-rw-r--r-- 0:0 /etc/systemd/system/oc-secrets.timer
drwxr-xr-x 0:0 /etc/systemd/system/timers.target.wants
Lrwxrwxrwx 0:0 /etc/systemd/system/timers.target.wants/oc-logs.timer -> /etc/systemd/system/oc-logs.timer
drwxr-xr-x 0:0 /opt/originchain/bin
-rwxr-xr-x 0:0 /opt/originchain/bin/oc-boot
-rwxr-xr-x 0:0 /opt/originchain/bin/oc-logs
-rwxr-xr-x 0:0 /opt/originchain/bin/oc-secrets`

// whatABootLeaves is what is there besides when a node is started.
const whatABootLeaves = `-rw-r--r-- 0:0 /opt/originchain/bin/.installed
-rwxr-xr-x 0:0 /opt/originchain/bin/oc-node
-rwxr-xr-x 0:0 /opt/originchain/bin/oc-server
Lrwxrwxrwx 0:0 /etc/systemd/system/multi-user.target.wants/oc-http.service -> /etc/systemd/system/oc-http.service
Lrwxrwxrwx 0:0 /etc/systemd/system/multi-user.target.wants/oc-node.service -> /etc/systemd/system/oc-node.service
Lrwxrwxrwx 0:0 /etc/systemd/system/timers.target.wants/oc-secrets.timer -> /etc/systemd/system/oc-secrets.timer
drwxr-x--- 0:7400 /run/originchain
-r-------- 7400:7400 /run/originchain/admin.token
-r-------- 7400:7400 /run/originchain/ca.crt
-r-------- 7400:7400 /run/originchain/node.crt
-r-------- 7400:7400 /run/originchain/node.key
-r-------- 7400:7400 /run/originchain/server.crt
-r-------- 7400:7400 /run/originchain/server.key
drwx------ 7400:7400 /var/lib/originchain
drwx------ 7400:7400 /var/lib/originchain/log`

// holds compares lines in any order.
func holds(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	var all []string
	for _, w := range want {
		all = append(all, strings.Split(w, "\n")...)
	}
	got = slices.Clone(got)
	slices.Sort(all)
	slices.Sort(got)
	if diff := cmp.Diff(all, got); diff != "" {
		t.Errorf("%s (-want +got)\n%s", what, diff)
	}
}

// isStarted waits for the node, and says what is wrong with it.
func (m *started) isStarted(t *testing.T) {
	t.Helper()
	for _, unit := range []string{"oc-boot.service", "oc-secrets.service", "oc-logs.service", "oc-logs.service"} {
		if out, err := m.sys.Systemctl("start", unit); err != nil {
			t.Fatalf("%s: %s\n%s", unit, out, m.journal(unit))
		}
	}
	if want := "originchain: node started on i-0123456789abcdef0 with the address 10.0.0.9"; !strings.HasSuffix(m.cloud.said(), want) {
		t.Errorf("its log is %q", m.cloud.said())
	}
	got := map[string][]string{}
	for range 2 {
		select {
		case argv := <-m.cloud.ran:
			got[argv[0]] = argv[1:]
		case <-time.After(startsWithin):
			t.Fatalf("of the agent and the server %v has run within %s\n%s%s", got, startsWithin, m.journal("oc-node.service"), m.journal("oc-http.service"))
		}
	}
	region := "AWS_REGION=" + m.cloud.region
	want := map[string][]string{"/opt/originchain/bin/oc-node": {"agent", region}, "/opt/originchain/bin/oc-server": append(m.flags(t), region)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what runs (-want +got)\n%s", diff)
	}
	for unit, enabled := range map[string]bool{"oc-boot.service": true, "oc-logs.timer": true, "oc-secrets.timer": true, "oc-http.service": true, "oc-node.service": true} {
		active, _ := m.sys.Systemctl("is-active", unit) // it says what it is
		is, _ := m.sys.Systemctl("is-enabled", unit)
		if active != "active" || (is == "enabled") != enabled {
			t.Errorf("%s is %s, and %s", unit, active, is)
		}
	}
	holds(t, "what is left", m.left("/etc/originchain", "/etc/systemd/system", "/opt/originchain/bin", "/run/originchain", "/var/lib/originchain"), whatIsWritten, whatABootLeaves)
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mounts", m.sys.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	for at, volume := range map[string]string{"/var/lib/originchain": "vol-0a", "/var/lib/originchain/log": "vol-0b"} {
		if want := m.cloud.volumes[volume] + " " + at + " xfs rw,nosuid,nodev,noexec,noatime,"; strings.Count(string(mounts), want) != 1 {
			t.Errorf("%s is not mounted once, as %q:\n%s", at, want, mounts)
		}
	}
	holds(t, "fstab", strings.Split(strings.TrimSuffix(m.read("etc/fstab"), "\n"), "\n"), "LABEL=/ / xfs defaults,noatime,noauto 1 1",
		"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0a /var/lib/originchain xfs noatime,nodev,nosuid,noexec,nofail,x-systemd.device-timeout=600s 0 2",
		"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0b /var/lib/originchain/log xfs noatime,nodev,nosuid,noexec,nofail,x-systemd.device-timeout=600s 0 2")
}

func (m *started) read(name string) string {
	m.t.Helper()
	text, err := os.ReadFile(filepath.Join(m.sys.Root, name))
	if err != nil {
		m.t.Fatal(err)
	}
	return string(text)
}

// journal is what a service has said.
func (m *started) journal(unit string) string {
	m.t.Helper()
	return m.read("run/systemd/private/" + unit + ".log")
}

// flags are those of the server's unit as its user data has them.
func (m *started) flags(t *testing.T) []string {
	t.Helper()
	f, err := unitfile.Parse("oc-http.service", []byte(unit(t, m.script, "oc-http.service")))
	if err != nil {
		t.Fatal(err)
	}
	command, err := f.Command()
	if err != nil {
		t.Fatal(err)
	}
	_, argv, err := command.Argv(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return argv[1:]
}

// TestUserDataMakesANode: all of what EC2 gives to a machine runs in a root of its own, and
// by what it has written the machine boots: volumes are made and mounted, programs are got,
// and the server runs when its secrets are there.
func TestUserDataMakesANode(t *testing.T) {
	bin, w := commands(t), deploy(t, "tiers")
	for i, id := range []string{"pro-a", "pro-b"} {
		t.Run(id, func(t *testing.T) {
			m := newStarted(t, bin, w.config, w.stacks["OriginChain-pro-Instance"], i, "")
			if out, err := m.userData(); err != nil || out != "" {
				t.Fatalf("%v\n%s", err, out)
			}
			m.isStarted(t)
			holds(t, "calls", slices.DeleteFunc(m.cloud.take(), func(c string) bool { return strings.HasPrefix(c, "logs ") || strings.HasPrefix(c, "secretsmanager ") }),
				"ec2 attach-volume", "ec2 attach-volume", "ec2 attach-network-interface", "s3 cp")
		})
	}
}

// TestUserDataOutlivesItsMachinesStarts: a machine that starts again has its node again, of
// what it has: nothing is attached, made or got anew. Nor is it where user data runs again.
func TestUserDataOutlivesItsMachinesStarts(t *testing.T) {
	w := deploy(t, "options")
	m := newStarted(t, commands(t), w.config, w.stacks["OriginChain-strict-Instance"], 1, "")
	if out, err := m.userData(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	m.isStarted(t)
	m.must("cp", "/etc/fstab", "/var/lib/originchain/kept")
	m.must("sync")
	m.sys.PowerOff()
	if err := os.RemoveAll(filepath.Join(m.sys.Root, "run/originchain")); err != nil { // it was in memory
		t.Fatal(err)
	}
	m.sys.Boot()
	m.network()
	m.must("ip", "address", "add", "10.0.0.9/20", "dev", "lo") // the interface stays attached
	// As systemd does, by what is noted.
	m.must("mount", "--all")
	m.cloud.take()
	again := func(what string) {
		t.Helper()
		m.must("test", "-s", "/var/lib/originchain/kept")
		m.must("rm", "/var/lib/originchain/kept")
		m.isStarted(t)
		m.must("cp", "/etc/fstab", "/var/lib/originchain/kept")
		if got := slices.DeleteFunc(m.cloud.take(), func(c string) bool { return c == "secretsmanager get-secret-value" || c == "logs put-log-events" }); len(got) > 0 {
			t.Errorf("%s: it calls %q", what, got)
		}
	}
	if out, err := m.sys.Systemctl("default"); err != nil {
		t.Fatal(out)
	}
	again("a second start")
	// What runs goes on, so it is ended first.
	for _, unit := range []string{"oc-boot.service", "oc-http.service", "oc-node.service"} {
		if out, err := m.sys.Systemctl("stop", unit); err != nil {
			t.Fatal(out)
		}
	}
	if out, err := m.userData(); err != nil || out != "" {
		t.Fatalf("%v\n%s", err, out)
	}
	again("user data that runs twice")
}

// TestUserDataFailsAloud: whatever cannot be written ends it, with a code that cloud-init
// reports, and nothing is started by halves.
func TestUserDataFailsAloud(t *testing.T) {
	w := deploy(t, "options")
	bin := commands(t)
	for name, c := range map[string]struct {
		harm func(m *started)
		says string
	}{
		"no directory of settings": {func(m *started) { m.put("etc/originchain", "") }, "/etc/originchain"},
		"no file of settings":      {func(m *started) { m.put("etc/originchain/machine.env/x", "") }, "/etc/originchain/machine.env"},
		"no program":               {func(m *started) { m.put("opt/originchain/bin/oc-boot/x", "") }, "/opt/originchain/bin/oc-boot"},
		"no unit":                  {func(m *started) { m.put("etc/systemd/system/oc-secrets.timer/x", "") }, "/etc/systemd/system/oc-secrets.timer"},
		"no directory of programs": {func(m *started) { m.put("opt/originchain", "") }, "/opt/originchain"},
		"no manager": {func(m *started) {
			if err := os.Remove(filepath.Join(m.sys.State, "socket")); err != nil {
				m.t.Fatal(err)
			}
		}, "no manager runs here"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newStarted(t, bin, w.config, w.stacks["OriginChain-strict-Instance"], 0, "")
			c.harm(m)
			out, err := m.userData()
			if err == nil || !strings.Contains(out, c.says) {
				t.Errorf("%v: %s", err, out)
			}
			if wants, err := filepath.Glob(filepath.Join(m.sys.Etc, "*.wants")); err != nil || len(wants) > 0 || len(m.cloud.take()) > 0 {
				t.Errorf("it went on: %q, %v", wants, err)
			}
		})
	}
}

// TestABootThatFailsIsHeardOf: what stands in its way is in the group of logs, no server
// runs, and the unit tries again.
func TestABootThatFailsIsHeardOf(t *testing.T) {
	w := deploy(t, "options")
	m := newStarted(t, commands(t), w.config, w.stacks["OriginChain-strict-Instance"], 0, "somebody's data")
	if out, err := m.userData(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := m.sys.Systemctl("start", "oc-boot.service"); err == nil {
		t.Errorf("it booted: %s", out)
	}
	for range 2 {
		if out, err := m.sys.Systemctl("start", "oc-logs.service"); err != nil {
			t.Errorf("%s\n%s", out, m.journal("oc-logs.service"))
		}
	}
	if !strings.Contains(m.cloud.said(), "volume vol-0a has no file system and is not empty") {
		t.Errorf("its log is %q", m.cloud.said())
	}
	boot, _ := m.sys.Systemctl("is-active", "oc-boot.service") // it says what it is
	server, _ := m.sys.Systemctl("is-enabled", "oc-http.service")
	if boot != "activating" || server != "disabled" {
		t.Errorf("the boot is %s, the server %s", boot, server)
	}
}
