// Package drills proves the failover: the control plane as it is run, its nodes in network
// namespaces of their own, clients at the stable endpoint, and one fault after the other.
// What the clients saw is checked for linearizability, and held against what the nodes
// have in the end. README.md says which drill is where, and how to replay a seed.
package drills

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"originchain/shared/aws/s3object/s3test"
	"originchain/test/netns"
)

// The flags.
var (
	seed    = flag.Uint64("seed", 1, "what clients send, and when, and where the seeded faults strike")
	all     = flag.Bool("all", false, "run the drills that take long, too")
	keepDir = flag.String("keep", "", "directory in which the instances' directories stay")
)

// atOnce is how many tests run at the same time unless -parallel says otherwise.
const atOnce = "4"

// The binaries, which TestMain builds. errSetup says why no test can run.
var (
	serverBin, controlBin, promoteBin, waldumpBin string
	errSetup                                      error
)

// insideEnv names the directory of the binaries to the process when it has begun anew, in
// namespaces of its own.
const insideEnv = "DRILLS_TEST_BINARIES"

func TestMain(m *testing.M) {
	if s3test.Child() {
		s3test.Main(m)
		return
	}
	flag.Parse()
	bin := os.Getenv(insideEnv)
	if bin == "" {
		errSetup = netns.Enter(insideEnv, "originchain/writer/cmd/oc-server", "originchain/lambdas/local/cmd/oc-control", "originchain/scripts/promote", "originchain/scripts/waldump")
		m.Run()
		return
	}
	defer func() { _ = os.RemoveAll(bin) }() // no test can speak up any more
	for name, path := range map[string]*string{"oc-server": &serverBin, "oc-control": &controlBin, "promote": &promoteBin, "waldump": &waldumpBin} {
		*path = filepath.Join(bin, name)
	}
	errSetup = netns.Inside(atOnce)
	s3test.Main(m)
	if testing.Verbose() {
		_, _ = fmt.Fprint(os.Stdout, told.summary())
	}
}

// long leaves a drill to `make drills`. It is no skip: the drill is another's longer twin,
// and the table in README.md says whose.
func long(t *testing.T, name string, drill func(*testing.T)) {
	t.Helper()
	if *all {
		t.Run(name, drill)
	}
}

// random is a test's own source.
func random(t *testing.T) *rand.Rand {
	var sum uint64
	for _, b := range []byte(t.Name()) {
		sum = sum*31 + uint64(b)
	}
	return rand.New(rand.NewPCG(*seed, sum))
}
