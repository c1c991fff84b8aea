package command

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"originchain/lambdas/local/control"
	"originchain/shared/failover"
)

func (c *command) promoteCommand() *cobra.Command {
	var p control.Promotion
	var asJSON bool
	var lag uint64
	cmd := &cobra.Command{
		Use: "promote", Short: "Make a follower the writer",
		Long: `Makes a follower the writer, in the eight steps of a failover. It is refused while the
writer is well, unless --planned: then the writer hands over, nothing that was
acknowledged is lost, and writes pause for less than a second.

Each further flag gives up one guard; the report of a refusal names the one that helps.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, _, err := c.client()
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("allow-lag") {
				p.AllowLag = &lag
			}
			report, err := client.Promote(cmd.Context(), p, func(line string) { c.sayf(c.Stderr, "%s", line) })
			if len(report) > 0 && asJSON {
				if err := c.document(report); err != nil {
					return err
				}
			}
			if refused := refused(report, err); refused != nil {
				return refused
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&p.Target, "target", "", "the follower to be promoted (default: the one that has most)")
	f.BoolVar(&p.Planned, "planned", false, "the writer is well and hands over")
	f.BoolVar(&p.DryRun, "dry-run", false, "say what would be done, and do nothing")
	f.BoolVar(&p.AllowSlowWriter, "allow-slow-writer", false, "promote although the writer answers, slowly")
	f.Uint64Var(&lag, "allow-lag", failover.DefaultAllowLag, "LSNs that the follower may be behind; 0 for none")
	f.BoolVar(&p.AllowBackfilling, "allow-backfilling", false, "promote in the middle of a migration's backfill")
	f.BoolVar(&p.AcceptDataLoss, "accept-data-loss", false, "promote although acknowledged writes may be lost; the report names which")
	f.BoolVar(&asJSON, "json", false, "print the report as one JSON document")
	return cmd
}

// refused is an error if the report says that nothing was done, because of a decision;
// said is what the control plane has said of it.
func refused(report json.RawMessage, said error) error {
	if len(report) == 0 {
		return nil
	}
	var r struct {
		Verdict failover.Verdict  `json:"verdict"`
		Reasons []failover.Reason `json:"reasons"`
	}
	if err := json.Unmarshal(report, &r); err != nil {
		return errors.Join(fmt.Errorf("the report of the promotion: %w", err), said)
	}
	if r.Verdict == failover.Promote || r.Verdict == failover.Done || said != nil && len(r.Reasons) == 0 {
		return nil
	}
	return &refusedError{string(r.Verdict), said}
}
