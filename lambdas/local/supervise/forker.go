package supervise

import (
	"os/exec"
	"runtime"
)

// forker starts all processes on one thread that lives as long as any of them: the
// kernel sends a child its parent-death signal when the thread that made it ends, not
// the process, and the runtime ends threads as it likes. The goroutine keeps its thread.
type forker struct {
	requests chan forking
	quit     chan struct{}
	done     chan struct{}
}

type forking struct {
	cmd    *exec.Cmd
	result chan error
}

func newForker() *forker {
	f := &forker{requests: make(chan forking), quit: make(chan struct{}), done: make(chan struct{})}
	go f.run()
	return f
}

func (f *forker) run() {
	defer close(f.done)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		select {
		case r := <-f.requests:
			r.result <- r.cmd.Start()
		case <-f.quit:
			return
		}
	}
}

// start starts the command; it returns when the program has been executed, or not.
func (f *forker) start(cmd *exec.Cmd) error {
	r := forking{cmd: cmd, result: make(chan error, 1)}
	f.requests <- r // who starts something keeps the forker open
	return <-r.result
}

// close ends the thread, after all children have been reaped.
func (f *forker) close() {
	close(f.quit)
	<-f.done
}
