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
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"originchain/test/netns"
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
		errSetup = netns.Enter(insideEnv, "originchain/writer/cmd/oc-server", "originchain/follower/cmd/oc-follower", "originchain/scripts/waldump")
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
	errSetup = errors.Join(errSetup, netns.Inside())
	m.Run()
}

// run and output are netns.Run and netns.Output.
func run(input, name string, args ...string) error { return netns.Run(input, name, args...) }

func output(input, name string, args ...string) (string, error) {
	return netns.Output(input, name, args...)
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
