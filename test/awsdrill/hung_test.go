package awsdrill

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"originchain/test/settle"
)

// logBytes is the size of a volume of a log, of which next to nothing is written.
const logBytes = 512 << 20

// logVolume gives a node's log a file system of its own, as every machine has one, and boots the
// machine with it.
func (n *node) logVolume() {
	n.r.t.Helper()
	n.machine.PowerOff()
	image, at := filepath.Join(n.r.t.TempDir(), "log.img"), n.log()
	n.r.must(os.MkdirAll(at, 0o700))
	n.r.must(os.WriteFile(image, nil, 0o600))
	n.r.must(os.Truncate(image, logBytes))
	n.r.run("mkfs.xfs", "-q", image)
	n.r.run("mount", "-o", "loop", image, at)
	n.r.t.Cleanup(func() {
		_ = exec.Command("fsfreeze", "--unfreeze", at).Run() // it is not frozen, where all went well
		n.machine.PowerOff()
		n.r.run("umount", at)
	})
	n.machine.Boot()
}

// log is where the log of a node is, as this process sees it.
func (n *node) log() string { return filepath.Join(n.machine.Root, data, "log") }

func (r *region) run(name string, args ...string) {
	r.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		r.t.Fatalf("%s %q: %v: %s; this needs root, loop devices, xfsprogs and util-linux", name, args, err, out)
	}
}

// hungDisk: every write to the log waits, of a process that cannot even be killed meanwhile. It ends
// when the disk takes writes again; nobody could have it started before, as the incident says, so
// that somebody does by hand then, and its unit makes a follower of it.
func (r *region) hungDisk() fault {
	a := r.nodes[0]
	was := a.pid()
	return fault{"hang", func() { r.run("fsfreeze", "--freeze", a.log()) }, func() {
		r.run("fsfreeze", "--unfreeze", a.log())
		settle.Eventually(r.t, "the process ends that was to end before", func() error {
			if now := a.pid(); now == was {
				return fmt.Errorf("%d runs", now)
			}
			return nil
		})
		if out, said, code := a.agent(r.t.Context(), "exec "+bin+"/oc-node start --unit "+unitName+" --epoch 2"); code != 0 {
			r.t.Errorf("exit code %d, %s%s", code, out, said)
		}
	}, func() error {
		now, err := a.process()
		if err == nil && (now == 0 || now == was) {
			err = fmt.Errorf("the process of %s is %d, and was %d", a.ID, now, was)
		}
		return err
	}}
}

// A disk that hangs stops everything but what needs no disk: the writer answers, and is replaced.
func hungDisk(t *testing.T) {
	c := newControl(t, func(r *region) { r.nodes[0].logVolume() })
	c.byAlarm(c.hungDisk())
}
