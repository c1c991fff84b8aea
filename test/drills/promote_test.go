package drills

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"originchain/test/settle"
)

// command is a program of an operator's that has ended.
type command struct {
	out  string // both outputs
	code int
}

// run runs a program; line, if not nil, is told of each line as it is printed, with the
// process.
func (i *instance) run(line func(string, *exec.Cmd), name string, args ...string) command {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*settle.Within)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	var all bytes.Buffer
	var read sync.WaitGroup
	read.Go(func() {
		lines := bufio.NewScanner(r)
		for lines.Scan() {
			fmt.Fprintln(&all, lines.Text())
			if line != nil {
				line(lines.Text(), cmd)
			}
		}
		_, _ = io.Copy(io.Discard, r) // a line that was too long
	})
	err := cmd.Run()
	_ = w.Close()
	read.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		i.t.Errorf("%s %q: %v", name, args, err)
	}
	return command{all.String(), cmd.ProcessState.ExitCode()}
}

// byScript makes a node the writer in a process of its own, as promote-follower.sh does.
func (i *instance) byScript(line func(string, *exec.Cmd), from, to *node, more ...string) command {
	i.t.Helper()
	return i.run(line, promoteBin, append([]string{"--provider", "local", "--dir", string(i.dir), "--writer-instance", from.ID, "--follower-instance", to.ID}, more...)...)
}

// byControl has oc-control do it.
func (i *instance) byControl(line func(string, *exec.Cmd), to *node, more ...string) command {
	i.t.Helper()
	return i.run(line, controlBin, append([]string{"promote", "--dir", string(i.dir), "--target", to.ID}, more...)...)
}

// Two runs at once, of the script and of oc-control: one writer, one epoch more.
func TestPromotedTwiceAtOnce(t *testing.T) {
	t.Parallel()
	t.Run("the same node", func(t *testing.T) {
		t.Parallel()
		i := newInstance(t, 1)
		l := i.begin()
		was, epoch := i.writer(), i.record().Epoch
		to := i.others(was)[0]
		var both sync.WaitGroup
		var script, ctl command
		both.Go(func() { script = i.byScript(nil, was, to) })
		both.Go(func() { ctl = i.byControl(nil, to, "--planned") })
		both.Wait()
		// Each goes on with the other's run, or finds that it is over.
		if now := i.record(); now.Holder != to.ID || now.Epoch != epoch+1 {
			t.Errorf("%s holds epoch %d after %d", now.Holder, now.Epoch, epoch)
		}
		if script.code != 0 && ctl.code != 0 {
			t.Errorf("neither has come to its end:\n%+v\n%+v", script, ctl)
		}
		for _, c := range []command{script, ctl} {
			if c.code != 0 && !strings.Contains(c.out, to.ID) {
				t.Errorf("it does not name %s:\n%s", to.ID, c.out)
			}
		}
		l.flow()
		l.settle()
	})
	t.Run("two nodes", func(t *testing.T) {
		t.Parallel()
		i := newInstance(t, 2, "--sync-replicas=2")
		l := i.begin()
		was, epoch := i.writer(), i.record().Epoch
		to := i.others(was)
		settle.Eventually(t, "both followers are in the set", func() error {
			if r := i.record(); len(r.InSync) != 2 {
				return fmt.Errorf("it is %v", r.InSync)
			}
			return nil
		})
		var both sync.WaitGroup
		commands := make([]command, 2)
		both.Go(func() { commands[0] = i.byScript(nil, was, to[0]) })
		both.Go(func() { commands[1] = i.byControl(nil, to[1], "--planned") })
		both.Wait()
		l.flow()
		i.whole()
		now := i.record()
		won, lost := 0, 1
		if now.Holder == to[1].ID {
			won, lost = 1, 0
		}
		if commands[won].code != 0 {
			t.Errorf("%s writes, and its run says\n%+v", now.Holder, commands[won])
		}
		// A run that began when the other was over has another writer to replace: it
		// refuses, or is one epoch later. None makes a writer beside another.
		if commands[lost].code == 0 && now.Epoch != epoch+2 || commands[lost].code != 0 && now.Epoch != epoch+1 {
			t.Errorf("epoch %d after %d:\n%+v\n%+v", now.Epoch, epoch, commands[won], commands[lost])
		}
		if commands[lost].code != 0 && !strings.Contains(commands[lost].out, now.Holder) {
			t.Errorf("it does not name %s, which won:\n%s", now.Holder, commands[lost].out)
		}
		l.settle()
	})
}

// killAfter is a line handler that kills the process when it has printed the n-th step;
// n 0 kills it as it begins.
func killAfter(n int) func(string, *exec.Cmd) {
	return func(line string, cmd *exec.Cmd) {
		if strings.HasPrefix(line, fmt.Sprintf("[%d/8]", n)) {
			_ = cmd.Process.Kill() // it may have ended
		}
	}
}

// The script is killed behind each of its steps, and run again: it finishes the job, or
// finds that the control plane has.
func TestPromotionKilledAndRunAgain(t *testing.T) {
	t.Parallel()
	i := newInstance(t, 1)
	l := i.begin()
	steps := []int{1, 3, 4}
	if *all {
		steps = []int{1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4, 5, 6, 7}
	}
	for k, n := range steps {
		was, epoch := i.writer(), i.record().Epoch
		to := i.others(was)[0]
		// Every other time the writer is dead, and the control plane goes at it as well.
		if k%2 == 1 {
			was.signal(syscall.SIGKILL)
		}
		first := i.byScript(killAfter(n), was, to)
		if first.code == 0 && n < 7 {
			t.Errorf("behind step %d it was not killed:\n%s", n, first.out)
		}
		if first.code > 0 {
			t.Logf("behind step %d, it had ended with %d:\n%s", n, first.code, first.out)
		}
		again := i.byScript(nil, was, to)
		if again.code != 0 {
			t.Errorf("after a kill behind step %d: code %d\n%s\nbefore:\n%s", n, again.code, again.out, first.out)
		}
		if now := i.record(); now.Holder != to.ID || now.Epoch != epoch+1 {
			t.Errorf("after a kill behind step %d %s holds epoch %d, after %d:\n%s\n%s", n, now.Holder, now.Epoch, epoch, first.out, again.out)
		}
		l.flow()
		i.whole()
	}
	l.settle()
}

// The control plane is killed behind a step of its own, and with it every node. The next
// one brings up an instance with one writer, and the promotion can be run again.
func TestControlPlaneKilledWhilePromoting(t *testing.T) {
	t.Parallel()
	r := random(t)
	steps := []int{1 + r.IntN(5)}
	if *all {
		steps = []int{1, 2, 3, 4, 5, 6, 7}
	}
	i := newInstance(t, 1)
	l := i.begin()
	l.breaks.Store(true)
	for _, n := range steps {
		to := i.others(i.writer())[0]
		epoch := uint64(i.record().Epoch)
		plane := i.plane
		i.byControl(func(line string, _ *exec.Cmd) {
			if strings.HasPrefix(line, fmt.Sprintf("[%d/8]", n)) {
				_ = plane.cmd.Process.Kill()
			}
		}, to, "--planned")
		<-plane.ended
		at := time.Now()
		i.up()
		l.succeeded(fmt.Sprintf("control plane killed, step %d", n), at, epoch)
		if i.writer() != to {
			if again := i.byControl(nil, to, "--planned"); again.code != 0 || i.writer() != to {
				t.Errorf("after a kill behind step %d: %+v", n, again)
			}
		}
		l.flow()
		i.whole()
	}
	l.settle()
}
