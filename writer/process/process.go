// Package process is the life of a server process: command line, signals,
// listeners, certificates, the order of stopping, and the exit code. What is
// served comes from a Node, which it does not know.
package process

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"originchain/shared/cli"
	"originchain/shared/telemetry"
	"originchain/shared/tenant"
	"originchain/writer/config"
)

// Node is a node of either role. Its handlers may be served before Run and
// until Close; until its log is read they answer /health and /ready, and 503
// for the rest.
type Node interface {
	// Handler serves the API; with --ops-listen, without the public routes,
	// which are then OpsHandler's alone.
	Handler() http.Handler
	OpsHandler() http.Handler
	// Run opens the data directory, reads its log and does the node's work until
	// ctx ends: nil then. An error is a directory that cannot be opened, or a
	// failed log; by then health checks have had time to see it.
	Run(ctx context.Context) error
	// Opened is closed once the log is read and the API is served.
	Opened() <-chan struct{}
	// Close syncs and gives the data directory back. It is called once, after
	// Run has returned and no handler runs any more.
	Close() error
}

// Deps are what a Node works with.
type Deps struct {
	Log     *logrus.Logger
	Metrics *telemetry.Metrics
	Audit   *telemetry.Audit
	Admin   *tenant.AdminToken
	// CertificateEnds is when the certificate of the API ends, or what is shown with it; nil
	// without TLS.
	CertificateEnds func() time.Time
}

// New makes a node of its configuration. It starts nothing and touches no file.
type New func(cfg config.Config, deps Deps) (Node, error)

// Process is what the outside of a process is made of.
type Process struct {
	// Name is the command's name.
	Name      string
	Args      []string
	LookupEnv func(string) (string, bool)
	Stdout    io.Writer
	Stderr    io.Writer
	// Signals delivers SIGTERM and SIGINT (stop; the second one at once) and
	// SIGHUP (read certificates again).
	Signals <-chan os.Signal
	// Mode is the role when none is asked for; empty is a writer.
	Mode string
	// Exit ends the process without return, on the second signal.
	Exit func(code int)
}

// Main runs the command line and returns the exit code.
func (p Process) Main(build New) int {
	cmd := p.command(build)
	cmd.SetArgs(p.Args)
	cmd.SetOut(p.Stdout)
	cmd.SetErr(p.Stderr)
	err := cmd.ExecuteContext(context.Background())
	code := exitCode(err)
	if err != nil && code != ExitOK {
		for _, line := range strings.Split(err.Error(), "\n") {
			_, _ = fmt.Fprintf(p.Stderr, "%s: %s\n", p.Name, telemetry.Redact(line))
		}
	}
	return code
}

// command is the root command with its flags.
func (p Process) command(build New) *cobra.Command {
	cmd := &cobra.Command{
		Use:   p.Name,
		Short: "OriginChain database server",
		Long: "OriginChain database server: a durable log, its state, and the HTTP API over it.\n\n" +
			"Every option is a flag and an environment variable; the flag wins.\n\n" + exitCodes,
		Example: "  " + p.Name + " --data-dir /var/lib/originchain\n" +
			"  " + p.Name + " --data-dir D --listen 0.0.0.0:7400 --tls-cert cert.pem --tls-key key.pem\n" +
			"  " + p.Name + " completion bash > /etc/bash_completion.d/" + p.Name,
		Version:           fmt.Sprintf("%s (commit %s, %s)", telemetry.Version, telemetry.Commit, runtime.Version()),
		Args:              cobra.NoArgs,
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	flags := config.Register(cmd.Flags())
	if p.Mode != "" {
		flags.SetDefault("mode", p.Mode)
	}
	cmd.Flags().SortFlags = false
	printConfig := cmd.Flags().Bool("print-config", false, "print the resulting configuration as JSON and exit")
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return withCode(ExitUsage, p.hint(err)) })
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, faults := flags.Resolve(p.LookupEnv)
		if len(faults) > 0 {
			return withCode(ExitUsage, p.hint(fmt.Errorf("%s", strings.Join(faults, "\n"))))
		}
		if *printConfig {
			text, err := cfg.JSON()
			if err == nil {
				_, err = p.Stdout.Write(text)
			}
			return err
		}
		return p.serve(cmd.Context(), cfg, build)
	}
	cmd.AddCommand(p.verification(), p.certificatesCommand(), cli.Completion(func(err error) error { return withCode(ExitUsage, p.hint(err)) }))
	args := cmd.Args
	cmd.Args = func(c *cobra.Command, a []string) error { return withCode(ExitUsage, p.hint(args(c, a))) }
	return cmd
}

// hint adds where to look to a usage error; nil stays nil.
func (p Process) hint(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w\nrun %s --help for the options", err, p.Name)
}

// watch turns signals into the end of the returned context and into hangups,
// until stop is called, which waits for it.
func (p Process) watch(ctx context.Context, log *logrus.Logger) (running context.Context, hangup <-chan struct{}, stop func()) {
	running, cancel := context.WithCancel(ctx)
	hangups := make(chan struct{}, 1)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		stopping := false
		for {
			select {
			case <-done:
				return
			case s := <-p.Signals:
				switch {
				case s == syscall.SIGHUP:
					select {
					case hangups <- struct{}{}:
					default: // one is waiting already
					}
				case stopping:
					log.WithField("signal", s.String()).Error("second signal, stopping at once")
					p.Exit(ExitFailure)
				default:
					stopping = true
					log.WithField("signal", s.String()).Info("stopping; another signal stops at once")
					cancel()
				}
			}
		}
	}()
	return running, hangups, func() {
		close(done)
		<-ended
		cancel()
	}
}
