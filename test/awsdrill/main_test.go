// Package awsdrill proves the failover on AWS as far as that can be without AWS: machines
// in network namespaces with roots and service managers of their own, commands that come
// to them by documents of Systems Manager and are really run there, records in DynamoDB,
// an archive in S3, and clients that find the writer by its name in a hosted zone. The
// programs are those that are deployed.
package awsdrill

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"originchain/shared/aws/s3object/s3test"
	"originchain/test/netns"
)

// insideEnv names the directory of the programs to the process when it has begun anew, in
// namespaces of its own.
const insideEnv = "AWSDRILL_TEST_BINARIES"

// programs is that directory; errSetup says why no test can run.
var (
	programs string
	errSetup error
)

func TestMain(m *testing.M) {
	if s3test.Child() {
		s3test.Main(m)
		return
	}
	programs = os.Getenv(insideEnv)
	if programs == "" {
		errSetup = netns.Enter(insideEnv, "originchain/writer/cmd/oc-server", "originchain/writer/cmd/oc-node", "originchain/scripts/promote", "originchain/test/systemctl/shim")
		m.Run()
		return
	}
	defer func() { _ = os.RemoveAll(programs) }() // no test can speak up any more
	shims := filepath.Join(programs, "systemd")
	errSetup = errors.Join(os.Mkdir(shims, 0o755), os.Rename(filepath.Join(programs, "shim"), filepath.Join(shims, "systemctl")), netns.Inside("1"))
	s3test.Main(m)
}
