// Package netns is for tests that fail networks on purpose: the test process begins anew
// in a network and a mount namespace of its own, and gives hosts namespaces of theirs.
// All of it is gone with the process, however it ends; nothing of the machine's own
// network is touched.
package netns

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// Enter builds programs, which may need the network, and begins the test process anew in
// the namespaces, with the directory of the programs in the variable env. It returns only
// if that fails.
func Enter(env string, packages ...string) error {
	for _, tool := range []struct{ name, pkg string }{{"ip", "iproute2"}, {"nft", "nftables"}, {"nsenter", "util-linux"}, {"unshare", "util-linux"}} {
		if _, err := exec.LookPath(tool.name); err != nil {
			return fmt.Errorf("these tests fail networks on purpose and need %s (package %s): %w", tool.name, tool.pkg, err)
		}
	}
	dir, err := os.MkdirTemp("", "oc-netns-bin-")
	if err != nil {
		return err
	}
	build := exec.Command("go", append([]string{"build", "-o", dir + "/"}, packages...)...)
	if out, err := build.CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("build the binaries: %w\n%s", err, out), os.RemoveAll(dir))
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	command := []string{"unshare", "--net", "--mount"}
	if os.Geteuid() != 0 {
		command = append(command, "--user", "--map-root-user")
	}
	if err := Run("", command[0], append(command[1:], "true")...); err != nil {
		return errors.Join(fmt.Errorf("these tests run in namespaces of their own, which root may make, or a user who may have user namespaces: %w", err), os.RemoveAll(dir))
	}
	path, err := exec.LookPath(command[0])
	if err != nil {
		return err
	}
	// The process stays the same: go test reads its output and its exit code.
	return syscall.Exec(path, append(append(command, self), os.Args[1:]...), append(os.Environ(), env+"="+dir))
}

// Inside prepares the namespaces: names of network namespaces are ours alone. Unless the
// command line says otherwise, atOnce tests run at the same time: they wait more than they
// compute, so more of them than there are processors.
func Inside(atOnce string) error {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", atOnce); err != nil {
			return err
		}
	}
	if err := syscall.Mount("none", "/run", "tmpfs", 0, "size=1m"); err != nil {
		return fmt.Errorf("mount a private /run: %w", err)
	}
	return Run("", "ip", "link", "set", "lo", "up")
}

// Run runs a command with an input, and says what it said when it fails.
func Run(input, name string, args ...string) error {
	_, err := Output(input, name, args...)
	return err
}

// Output is Run for commands whose output is wanted.
func Output(input, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	if input != "" {
		in, err := cmd.StdinPipe()
		if err != nil {
			return "", err
		}
		go func() {
			_, _ = io.WriteString(in, input) // the command says what it misses
			_ = in.Close()
		}()
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %v: %w: %s%s", name, args, err, input, out)
	}
	return string(out), nil
}
