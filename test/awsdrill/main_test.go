// Package awsdrill proves the failover on AWS as far as that can be without AWS: machines
// in network namespaces with roots and service managers of their own, commands that come
// to them by documents of Systems Manager and are really run there, records in DynamoDB,
// an archive in S3, and clients that find the writer by its name in a hosted zone. Nodes
// are known by certificates of the instance's own authority, to whoever asks them. The
// programs are those that are deployed.
package awsdrill

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"originchain/shared/aws/s3object/s3test"
	"originchain/test/netns"
	"originchain/test/stepfunctions"
)

// insideEnv names the directory of the programs to the process when it has begun anew, in
// namespaces of its own.
const insideEnv = "AWSDRILL_TEST_BINARIES"

// toolsEnv names the directory of the functions' programs and of the metadata service.
const toolsEnv = "AWSDRILL_TEST_TOOLS"

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
		errSetup = outside()
		m.Run()
		return
	}
	defer func() { _, _ = os.RemoveAll(programs), os.RemoveAll(os.Getenv(toolsEnv)) }() // no test can speak up any more
	shims := filepath.Join(programs, "systemd")
	errSetup = errors.Join(os.Mkdir(shims, 0o755), os.Rename(filepath.Join(programs, "shim"), filepath.Join(shims, "systemctl")), netns.Inside("1"))
	s3test.Main(m)
}

// outside gets what needs the network, and begins the process anew.
func outside() error {
	dir, err := os.MkdirTemp("", "oc-awsdrill-*")
	if err != nil {
		return err
	}
	for _, b := range [][]string{
		{filepath.Join("..", "emulators", "imds"), "github.com/aws/amazon-ec2-metadata-mock/cmd/ec2-metadata-mock"},
		{".", "originchain/lambdas/silence/cmd/silence", "originchain/lambdas/promote/cmd/promote", "originchain/lambdas/dns/cmd/dns", "originchain/lambdas/notify/cmd/notify"},
	} {
		build := exec.Command("go", append([]string{"build", "-o", dir + "/"}, b[1:]...)...)
		build.Dir = b[0]
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build %v: %w\n%s", b[1:], err, out)
		}
	}
	if err := (stepfunctions.Runner{Dir: filepath.Join("..", "stepfunctions")}).Install(context.Background()); err != nil {
		return err
	}
	if err := os.Setenv(toolsEnv, dir); err != nil {
		return err
	}
	return netns.Enter(insideEnv, "originchain/writer/cmd/oc-server", "originchain/writer/cmd/oc-node", "originchain/scripts/promote", "originchain/test/systemctl/shim")
}

// all has every drill of the alarm run; the shortest is always.
var all = flag.Bool("all", false, "run the drills that take long, too")
