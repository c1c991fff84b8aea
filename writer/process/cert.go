package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"originchain/shared/devca"
)

const certDevLong = `Make certificates for replication between nodes, for development: a certificate
authority of your own, and for each node a directory that --replication-tls-dir
reads. A certificate names its node, not an address: give each node its own, and
start it with the same name as --node-id.

  D/ca.key          the authority's private key: whoever has it can make nodes
  D/ca.crt          the authority
  D/NODE/ca.crt     the same
  D/NODE/node.crt   the node's certificate, for server and client
  D/NODE/node.key   its private key

Run it again for more nodes or hosts, and to renew: what is there and good is
kept, what is missing is made, a certificate in the last third of its life is
renewed with the key it has, and servers take it up while they run. Every file is
listed with what was done about it. What is there and was not made by this
command is refused. Keys have mode 0600 and are ECDSA P-256.

Not for production, where the authority's key is kept away from the nodes.

Exit codes:
  0  everything is there and good
  1  something could not be read or written
  2  usage: every fault is listed
  3  something in the directory was not made by this command`

// certificatesCommand is the subcommand for certificates.
func (p Process) certificatesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cert",
		Short: "certificates for replication between nodes",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return withCode(ExitUsage, p.hint(fmt.Errorf("cert: there is no %q, only dev", args[0])))
			}
			return nil
		},
		RunE: func(*cobra.Command, []string) error {
			return withCode(ExitUsage, fmt.Errorf("cert: say which certificates, such as %s cert dev\nrun %s cert --help for the commands", p.Name, p.Name))
		},
	}
	cmd.AddCommand(p.developmentCertificates())
	return cmd
}

func (p Process) developmentCertificates() *cobra.Command {
	var o devca.Options
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "dev --dir D [--node N]... [--host H]...",
		Short: "make and renew development certificates for replication",
		Long:  certDevLong,
		Example: "  " + p.Name + " cert dev --dir certs\n" +
			"  " + p.Name + " cert dev --dir certs --node writer --node east-1 --host db.example.net --host 10.0.0.7",
		Args: func(cmd *cobra.Command, args []string) error {
			return withCode(ExitUsage, p.hint(cobra.NoArgs(cmd, args)))
		},
		RunE: func(*cobra.Command, []string) error {
			o.Now = time.Now()
			if faults := o.Validate(); len(faults) > 0 {
				return withCode(ExitUsage, fmt.Errorf("%s\nrun %s cert dev --help for the options", strings.Join(faults, "\n"), p.Name))
			}
			return p.makeCertificates(o, asJSON)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&o.Dir, "dir", "", "directory of the authority and of the nodes' directories (required)")
	flags.StringArrayVar(&o.Nodes, "node", devca.DefaultNodes(), "a node, by its --node-id; repeat for more")
	flags.StringArrayVar(&o.Hosts, "host", nil, "DNS name or address that the certificates name beside the node, for other tools; repeat for more\n(default: those that a certificate has, "+
		strings.Join(devca.DefaultHosts(), ", ")+" for a new one)")
	flags.IntVar(&o.Days, "days", 90, "how many days a new certificate is good for")
	flags.BoolVar(&asJSON, "json", false, "print one JSON document on standard output")
	return cmd
}

// madeCertificates is the document of --json.
type madeCertificates struct {
	Dir   string       `json:"dir"`
	Files []devca.Step `json:"files"`
	Nodes []madeNode   `json:"nodes,omitempty"`
	Error string       `json:"error,omitempty"`
}

// madeNode is what to pass to a node.
type madeNode struct {
	Node string   `json:"node"`
	Args []string `json:"args"`
}

func (p Process) makeCertificates(o devca.Options, asJSON bool) error {
	steps, err := devca.Make(o)
	m := madeCertificates{Dir: o.Dir, Files: steps, Error: message(err)}
	for i, node := range o.Nodes {
		if err == nil && !slices.Contains(o.Nodes[:i], node) {
			m.Nodes = append(m.Nodes, madeNode{Node: node, Args: []string{"--node-id", node, "--replication-tls-dir", filepath.Join(o.Dir, node)}})
		}
	}
	if printErr := p.printCertificates(m, asJSON); printErr != nil {
		return errors.Join(err, printErr)
	}
	if errors.Is(err, devca.ErrForeign) {
		return withCode(ExitRefused, err)
	}
	return err
}

func (p Process) printCertificates(m madeCertificates, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(p.Stdout)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(m)
	}
	var b strings.Builder
	for _, step := range m.Files {
		fmt.Fprintf(&b, "%-8s  %s\n          %s\n", step.Did, step.File, step.Note)
	}
	if len(m.Nodes) > 0 {
		b.WriteString("\nPass to each node:\n")
	}
	for _, node := range m.Nodes {
		fmt.Fprintf(&b, "  %s\n", strings.Join(node.Args, " "))
	}
	_, err := p.Stdout.Write([]byte(b.String()))
	return err
}
