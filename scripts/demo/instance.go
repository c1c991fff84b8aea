package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"originchain/lambdas/local/control"
	"originchain/lambdas/local/layout"
	"originchain/scripts/call"
)

// The programs.
const (
	ocControl = "oc-control"
	ocServer  = "oc-server"
	ocPITR    = "oc-pitr"
)

const (
	// exitDown is oc-control's exit code for a directory in which nothing is up.
	exitDown = 3
	// stopWithin is how long a program may take to end in order: oc-control gives its
	// nodes half a minute each.
	stopWithin = 2 * time.Minute
)

func (d *demo) program(name string) string { return filepath.Join(d.bin, name) }

// plane is the control plane that has the instance up.
func (d *demo) plane() *control.Client { return control.NewClient(d.place.Socket()) }

// up has the instance up, a new one or that of an earlier demo, and enters it.
func (d *demo) up(ctx context.Context) error {
	in, err := d.place.Load()
	if err != nil {
		return err
	}
	// Nobody else's demo runs here: the lock is ours.
	if _, err := d.plane().Status(ctx); err == nil {
		d.sayf("An instance is up in %s, of a demo that was killed or started by hand. Ending it in order …\n", d.dir)
		if err := d.down(ctx); err != nil {
			return err
		}
	}
	what := "Starting a writer, a follower and an archive"
	if in != nil {
		what = "Going on with the instance"
	}
	started := time.Now()
	d.sayf("%s in %s (oc-control up) …", what, d.dir)
	if _, err := d.runTool(ctx, nil, ocControl, "up", "--dir", d.dir, "--detach"); err != nil {
		return err
	}
	d.sayf(" up after %s.\n", time.Since(started).Round(time.Millisecond))
	return d.enter()
}

// enter finds out where the instance is reached, and with what.
func (d *demo) enter() (err error) {
	if d.at, err = d.place.ReadEndpoints(); err != nil {
		return err
	}
	if len(d.at.Followers) == 0 {
		return fmt.Errorf("the instance in %s has no follower, and the demo shows one: name another directory with --dir", d.dir)
	}
	token, err := layout.Secret(d.at.TokenFile)
	if err != nil {
		return err
	}
	admin, err := layout.Secret(d.at.AdminTokenFile)
	if err != nil {
		return err
	}
	d.client = &call.Client{URL: d.at.Endpoint, Token: token}
	d.admin = &call.Client{URL: d.at.Endpoint, Token: admin}
	return nil
}

// down takes the instance down in order; one that is not up is no error.
func (d *demo) down(ctx context.Context) error {
	_, err := d.runTool(ctx, nil, ocControl, "down", "--dir", d.dir)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == exitDown {
		return nil
	}
	return err
}

// stop ends everything in order, and says so.
func (d *demo) stop() error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), stopWithin, fmt.Errorf("not within %s; %s has the log", stopWithin, d.place.Log()))
	defer cancel()
	d.sayf("\nTaking the instance down …")
	var errs []error
	if d.restored != nil {
		errs = append(errs, d.restored.Stop(ctx))
	}
	if d.copyLog != nil {
		errs = append(errs, d.copyLog.Close())
	}
	errs = append(errs, d.down(ctx))
	err := errors.Join(errs...)
	if err == nil {
		d.sayf(" stopped; the data stays in %s.\n", d.dir)
	}
	return errors.Join(err, d.lock.Close())
}

// runTool runs a program to its end and returns what it printed. What it says meanwhile
// goes to shown, or, if that is nil, into the error. Cancelled, it is asked to stop, and
// has ended on return. It has a process group of its own, so that Ctrl-C reaches it
// through us.
func (d *demo) runTool(ctx context.Context, shown io.Writer, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, d.program(name), args...)
	var out, said bytes.Buffer
	if shown == nil {
		shown = &said
	}
	cmd.Stdout, cmd.Stderr = &out, shown
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopWithin
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %s: %w; `%s --help` says what the code means\n%s%s", name, args[0], err, d.program(name), bytes.TrimSpace(out.Bytes()), bytes.TrimSpace(said.Bytes()))
	}
	return out.Bytes(), nil
}
