package command

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"originchain/lambdas/local/control"
	"originchain/lambdas/local/layout"
)

const (
	// readyFD is where a detached plane says that it is ready, or why it is not.
	readyFD = 3
	// readyWord is what it says then.
	readyWord = "ready\n"
	// shortWord begins what it says where it goes on and not all is as it should be.
	shortWord = "short\n"
	// readyEnv tells it to.
	readyEnv = "ORIGINCHAIN_CONTROL_READY_FD"
	// downWithin bounds the wait of down: nodes drain, and are killed after a time.
	downWithin = 2 * time.Minute
	lockPoll   = 20 * time.Millisecond
)

func (c *command) upCommand() *cobra.Command {
	var o UpOptions
	var detach bool
	cmd := &cobra.Command{
		Use: "up", Short: "Start the instance, or go on with the one that is there",
		Long: `Starts the nodes of the instance in --dir, a new one if there is none yet, with one
empty tenant. Where everything is reached is in endpoints.json in that directory.

With --detach it returns once the writer is ready and all followers are in sync; else it
stays, and Ctrl-C ends the instance in order. Either way what was acknowledged stays, and
up goes on with it. Where a follower does not come up within 5 minutes, and the writer of
an instance that was up before is ready, it says so, with --detach as an error, and the
instance goes on.

While it is up a recovery point of the archive is verified every --verify-every, and who
notify.toml in the directory names is told of incidents.`,
		Example: "  oc-control up --dir var/instance --followers 1 --detach",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.Dir, err = c.place(); err != nil {
				return err
			}
			o.FollowersGiven = cmd.Flags().Changed("followers")
			if err := o.checkVerify(); err != nil {
				return err
			}
			if o.Server, err = program(o.Server); err != nil {
				return err
			}
			if detach {
				return c.detached(cmd.Context(), o)
			}
			return c.attached(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.Followers, "followers", 1, "followers of a new instance")
	f.BoolVar(&detach, "detach", false, "return when it is up; oc-control down ends it")
	f.StringVar(&o.Server, "server", beside("oc-server"), "the program of the nodes")
	f.StringArrayVar(&o.More, "node-flag", nil, "a further flag for every node of a new instance, such as --node-flag=--log-level=debug; may be repeated")
	f.DurationVar(&o.VerifyEvery, "verify-every", 24*time.Hour, "how often a recovery point is restored and checked in full")
	f.StringVar(&o.VerifyMode, "verify-mode", VerifyFull, "full: restore it into scratch; streaming: read the checkpoint where it is, which takes less space")
	return cmd
}

// The modes of verification; both look at everything.
const (
	VerifyFull      = "full"
	VerifyStreaming = "streaming"
	// minVerifyEvery bounds --verify-every.
	minVerifyEvery = time.Second
)

func (o *UpOptions) checkVerify() error {
	if o.VerifyEvery < minVerifyEvery {
		return &usageError{fmt.Errorf("--verify-every %s: %s at least", o.VerifyEvery, minVerifyEvery)}
	}
	if o.VerifyMode != VerifyFull && o.VerifyMode != VerifyStreaming {
		return &usageError{fmt.Errorf("--verify-mode %q: give %s or %s", o.VerifyMode, VerifyFull, VerifyStreaming)}
	}
	return nil
}

// beside is a program in the directory of this one.
func beside(name string) string {
	self, err := os.Executable()
	if err != nil {
		return filepath.Join("bin", name)
	}
	return filepath.Join(filepath.Dir(self), name)
}

func program(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err == nil {
		err = unix.Access(path, unix.X_OK)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w; build it with: make build", path, err)
	}
	return path, nil
}

func (c *command) attached(ctx context.Context, o UpOptions) (err error) {
	o.Out, o.Log = c.Stdout, c.Stderr
	ready := func(error) error { return nil }
	if os.Getenv(readyEnv) != "" {
		// The child of a detached up: standard output is the log's file already, and
		// whoever started it waits for a word.
		word := os.NewFile(readyFD, "ready")
		unix.CloseOnExec(readyFD)
		if err := os.Unsetenv(readyEnv); err != nil {
			return err
		}
		ready = func(short error) error {
			text := readyWord
			if short != nil {
				text = shortWord + short.Error()
			}
			_, err := io.WriteString(word, text)
			return errors.Join(err, word.Close())
		}
		defer func() {
			if err != nil {
				_, _ = fmt.Fprintln(word, err) // a closed one has heard that it is ready
			}
		}()
	}
	return c.Up(ctx, o, ready)
}

// detached runs this program again, in a session of its own, and waits for its word.
func (c *command) detached(ctx context.Context, o UpOptions) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(o.Dir.Log()), 0o700); err != nil {
		return fmt.Errorf("create the instance's directory: %w; choose another with --dir", err)
	}
	log, err := os.OpenFile(o.Dir.Log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	word, say, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, word.Close()) }()
	args := []string{"up", "--dir", string(o.Dir), "--server", o.Server, "--verify-every", o.VerifyEvery.String(), "--verify-mode", o.VerifyMode}
	if o.FollowersGiven {
		args = append(args, "--followers", fmt.Sprint(o.Followers))
	}
	for _, m := range o.More {
		args = append(args, "--node-flag="+m)
	}
	child := exec.Command(self, args...)
	child.Env = append(os.Environ(), readyEnv+"=1")
	child.Stdout, child.Stderr, child.ExtraFiles = log, log, []*os.File{say}
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := child.Start(); err != nil {
		return errors.Join(err, say.Close())
	}
	if err := say.Close(); err != nil {
		return err
	}
	return c.heard(ctx, word, child, o.Dir)
}

// heard waits for the word of a detached child.
func (c *command) heard(ctx context.Context, word *os.File, child *exec.Cmd, dir layout.Dir) error {
	said := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(bufio.NewReader(word)) // a pipe that breaks has said what it has
		said <- string(b)
	}()
	select {
	case text := <-said:
		if short, is := strings.CutPrefix(text, shortWord); is {
			return errors.Join(fmt.Errorf("the instance is up, and not whole: %s", strings.TrimSpace(short)), child.Process.Release())
		}
		if !strings.HasPrefix(text, readyWord) {
			return fmt.Errorf("the instance did not come up: %s\nthe whole log is in %s", strings.TrimSpace(text), dir.Log())
		}
	case <-ctx.Done():
		err := child.Process.Signal(syscall.SIGTERM)
		<-said
		_ = child.Wait() // its nodes have ended then, whatever its code
		return errors.Join(context.Cause(ctx), err)
	}
	in, err := dir.ReadEndpoints()
	if err != nil {
		return err
	}
	c.sayf(c.Stdout, "up: %s follows the writer; everything else is in %s", in.Endpoint, dir.Endpoints())
	return child.Process.Release()
}

func (c *command) downCommand() *cobra.Command {
	return &cobra.Command{
		Use: "down", Short: "End the instance in order; what was acknowledged stays",
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, dir, err := c.client()
			if err != nil {
				return err
			}
			if err := client.Down(cmd.Context()); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), downWithin, fmt.Errorf("it has not ended within %s; %s says what it waits for", downWithin, dir.Log()))
			defer cancel()
			return unlocked(ctx, dir.Lock())
		},
	}
}

// unlocked waits until nobody holds a lock.
func unlocked(ctx context.Context, path string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err == nil {
			return nil
		} else if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (c *command) statusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status", Short: "Say who writes, who follows, and what is wrong",
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, _, err := c.client()
			if err != nil {
				return err
			}
			s, err := client.Status(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return c.document(s)
			}
			return c.table(&s)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return cmd
}

// table is the status as a person reads it.
func (c *command) table(s *control.Status) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "epoch %d\n%-9s %-10s %-28s pid %d\n", s.Epoch, "writer", s.Writer.Node, s.Writer.Address, s.Writer.PID)
	for _, f := range s.Followers {
		how := "not connected"
		switch {
		case f.InSync:
			how = "in sync"
		case f.Connected:
			how = "catching up"
		case f.PID == 0:
			how = "not running"
		}
		fmt.Fprintf(&b, "%-9s %-10s %-28s pid %-8d %s, applied LSN %d\n", "follower", f.Node.Node, f.Address, f.PID, how, f.AppliedLSN)
	}
	b.WriteString(lastFailover(s.LastFailover))
	for _, a := range s.Alarms {
		fmt.Fprintf(&b, "ALARM     %s %s, since %s: %s\n          %s\n", a.Name, a.Node, a.Since.Format(time.RFC3339), a.Summary, a.Runbook)
	}
	for i := range s.Incidents {
		n := &s.Incidents[i]
		fmt.Fprintf(&b, "INCIDENT  severity %d, since %s: %s\n          %s, %s, %s owed\n", n.Severity, n.Opened.Format(time.RFC3339), n.Title, n.ID, counted(n.Updates, "update", "updates"), counted(n.Owed, "delivery", "deliveries"))
	}
	if v := s.Verification; v != nil {
		fmt.Fprintf(&b, "%-9s %s\n", "verified", verifiedText(v))
	}
	_, err := c.Stdout.Write(b.Bytes())
	return err
}

// counted is a number of things, as it is read.
func counted(n int, one, more string) string {
	if n == 1 {
		more = one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// verifiedText says how old the last verification is, and how the last one ended if that
// was not well.
func verifiedText(v *control.Verification) string {
	text := "no recovery point yet"
	switch {
	case v.AgeSeconds == nil:
		text = "not known: the clock contradicts the record"
	case v.Verified != nil:
		text = fmt.Sprintf("a recovery point %s ago, in full", (time.Duration(*v.AgeSeconds) * time.Second).String())
	}
	if v.Last != nil && !v.Last.Green {
		text += fmt.Sprintf("; the last try, at %s: %s", v.Last.Ended.Format(time.RFC3339), v.Last.Error)
	}
	return text
}
