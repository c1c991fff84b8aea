// Package cluster tests an instance of several nodes as an operator runs it: the
// real binaries, each in a network namespace of its own, with the network, the
// disks and the processes failing under them. README.md says what is tested and
// how to replay a seed.
package cluster

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// The flags. One test needs a minute of waiting and seconds of computing, so more
// of them run at once than there are processors.
var (
	firstSeed = flag.Uint64("seed", 1, "first seed of TestFaults")
	seedCount = flag.Int("n", 2, "how many seeds TestFaults runs")
	keepDir   = flag.String("keep", "", "directory in which the nodes' data and logs stay")
)

// atOnce is how many tests run at the same time unless -parallel says otherwise.
const atOnce = "5"

// The binaries, which TestMain builds. errSetup says why no test can run.
var (
	serverBin, followerBin, waldumpBin string
	errSetup                           error
)

// insideEnv names the directory of the binaries to the process when it has begun
// anew, in namespaces of its own. All network devices, names and mounts of the
// tests are in there, and gone with it, however it ends; nothing of the
// machine's own network is touched.
const insideEnv = "CLUSTER_TEST_BINARIES"

func TestMain(m *testing.M) {
	flag.Parse()
	bin := os.Getenv(insideEnv)
	if bin == "" {
		errSetup = enter()
		m.Run()
		return
	}
	defer func() { _ = os.RemoveAll(bin) }() // no test can speak up any more
	serverBin, followerBin, waldumpBin = filepath.Join(bin, "oc-server"), filepath.Join(bin, "oc-follower"), filepath.Join(bin, "waldump")
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		errSetup = flag.Set("test.parallel", atOnce)
	}
	errSetup = errors.Join(errSetup, inside())
	m.Run()
}

// enter builds the binaries, which may need the network, and begins the tests anew
// in the namespaces. It returns only if that fails.
func enter() error {
	for _, tool := range []struct{ name, pkg string }{{"ip", "iproute2"}, {"nft", "nftables"}, {"nsenter", "util-linux"}, {"unshare", "util-linux"}} {
		if _, err := exec.LookPath(tool.name); err != nil {
			return fmt.Errorf("these tests fail networks on purpose and need %s (package %s): %w", tool.name, tool.pkg, err)
		}
	}
	dir, err := os.MkdirTemp("", "oc-cluster-bin-")
	if err != nil {
		return err
	}
	build := exec.Command("go", "build", "-o", dir+"/", "originchain/writer/cmd/oc-server", "originchain/follower/cmd/oc-follower", "originchain/scripts/waldump")
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
	if err := run("", command[0], append(command[1:], "true")...); err != nil {
		return errors.Join(fmt.Errorf("these tests run in namespaces of their own, which root may make, or a user who may have user namespaces: %w", err), os.RemoveAll(dir))
	}
	path, err := exec.LookPath(command[0])
	if err != nil {
		return err
	}
	// The process stays the same: go test reads its output and its exit code.
	return syscall.Exec(path, append(append(command, self), os.Args[1:]...), append(os.Environ(), insideEnv+"="+dir))
}

// inside prepares the namespaces: names of network namespaces are ours alone.
func inside() error {
	if err := syscall.Mount("none", "/run", "tmpfs", 0, "size=1m"); err != nil {
		return fmt.Errorf("mount a private /run: %w", err)
	}
	return run("", "ip", "link", "set", "lo", "up")
}

// run runs a command with an input, and says what it said when it fails.
func run(input, name string, args ...string) error {
	_, err := output(input, name, args...)
	return err
}

func output(input, name string, args ...string) (string, error) {
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

// pause lets d pass, or ctx end.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// within is the bound of everything that is waited for. It is generous: it is
// there to end a test that would hang.
const within = 90 * time.Second

const pollEvery = 20 * time.Millisecond

// eventually waits until check finds nothing wrong.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	if err := becomes(t.Context(), check); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// becomes is eventually for goroutines that may not end the test.
func becomes(ctx context.Context, check func() error) error {
	deadline := time.Now().Add(within)
	for {
		err := check()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return errors.Join(ctx.Err(), err)
		case time.Now().After(deadline):
			return fmt.Errorf("not within %s: %w", within, err)
		}
		pause(ctx, pollEvery)
	}
}

// newTransport is what all clients of a cluster share.
func newTransport() *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 32, IdleConnTimeout: 30 * time.Second}}
}
