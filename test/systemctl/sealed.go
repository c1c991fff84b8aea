package systemctl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// sealedBin is where a sealed machine has Options.Bin: before all else on its PATH.
const sealedBin = "/usr/local/sbin"

// sealedFiles are what a sealed machine has in /etc, as one that was just installed.
var sealedFiles = [][3]string{
	{"passwd", "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n", "644"},
	{"group", "root:x:0:\nnobody:x:65534:\n", "644"},
	{"shadow", "root:*:20000:0:99999:7:::\nnobody:*:20000:0:99999:7:::\n", "600"},
	{"gshadow", "root:*::\nnobody:*::\n", "600"},
	{"login.defs", "SYS_UID_MIN 201\nSYS_UID_MAX 999\nUID_MIN 1000\n", "644"},
	{"nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files\n", "644"},
	{"hosts", "127.0.0.1 localhost\n", "644"},
	{"fstab", "", "644"},
}

// seal makes the root of a machine that shares programs alone, and what enters it.
func (m *Machine) seal() error {
	var faults []error
	for _, d := range []string{"dev/disk/by-id", "dev/shm", "etc", "home", "mnt", "opt", "proc", "root", "run", "sys", "tmp", "var/cache", "var/lib", "var/log", "var/tmp"} {
		faults = append(faults, os.MkdirAll(filepath.Join(m.Root, d), 0o755))
	}
	for _, f := range sealedFiles {
		mode, err := strconv.ParseUint(f[2], 8, 32)
		faults = append(faults, err, os.WriteFile(filepath.Join(m.Root, "etc", f[0]), []byte(f[1]), os.FileMode(mode)))
	}
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		faults = append(faults, os.Symlink(target, filepath.Join(m.Root, "dev", name)))
	}
	var script strings.Builder
	script.WriteString("set -eu\n")
	bind := func(how, from, to, options string) {
		at := filepath.Join(m.Root, to)
		_, _ = fmt.Fprintf(&script, "mount --%s %s %s\n", how, from, at) // it is a buffer
		if options != "" {
			_, _ = fmt.Fprintf(&script, "mount -o remount,bind,%s %s\n", options, at)
		}
	}
	for _, d := range []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/alternatives", "/proc", "/sys"} {
		if target, err := os.Readlink(d); err == nil {
			faults = append(faults, os.Symlink(target, filepath.Join(m.Root, d)))
		} else if _, err := os.Stat(d); err == nil {
			faults = append(faults, os.MkdirAll(filepath.Join(m.Root, d), 0o755))
			bind("rbind", d, d, "ro")
		}
	}
	bind("bind", m.bin, sealedBin, "ro")
	for _, d := range append([]string{"/dev/full", "/dev/null", "/dev/random", "/dev/urandom", "/dev/zero"}, m.devices...) {
		faults = append(faults, os.WriteFile(filepath.Join(m.Root, d), nil, 0o600))
		bind("bind", d, d, "")
	}
	_, _ = fmt.Fprintf(&script, "exec chroot %s \"$@\"\n", m.Root)
	return errors.Join(append(faults, os.WriteFile(m.Root+".sh", []byte(script.String()), 0o600))...)
}

// Enter is a command on the machine as its services are: it sees what they have mounted,
// and their network, which are gone with the manager.
func (m *Machine) Enter(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--target", strconv.Itoa(m.Pid()), "--mount", "--net", "--root", "--wd", name}, args...)...)
	cmd.Env = m.sealedEnvironment()
	return cmd
}

// sealedEnvironment is what commands of a sealed machine have of an environment.
func (m *Machine) sealedEnvironment() []string {
	return []string{servicePath, StateVariable + "=" + strings.TrimPrefix(m.State, m.Root)}
}

// Pid is that of the manager as seen from here.
func (m *Machine) Pid() int { return m.manager.Process.Pid }
