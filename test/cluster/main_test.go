// Package cluster tests an instance of several nodes as an operator runs it: the
// real binaries, each in a network namespace of its own, with the network, the
// disks and the processes failing under them. README.md says what is tested and
// how to replay a seed.
package cluster

import (
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"originchain/test/netns"
)

// The flags.
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
	errSetup = netns.Inside(atOnce)
	m.Run()
}

// newTransport is what all clients of a cluster share.
func newTransport() *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 32, IdleConnTimeout: 30 * time.Second}}
}
