package silence

import (
	"context"
	"fmt"
	"slices"

	"originchain/shared/failover"
	"originchain/shared/lease"
)

// Approval is what a person who was called has said, of what that call has told.
type Approval struct {
	Approve bool   `json:"approve"`
	By      string `json:"by"`
	// Epoch and Writer are those of the record, To is the node that is to write. With others
	// than these an approval is void.
	Epoch  uint64 `json:"epoch"`
	Writer string `json:"writer"`
	To     string `json:"to"`
	// LossFrom and LossTo are the LSNs that accept_data_loss is about; both 0 where none is
	// known to be lost.
	LossFrom uint64 `json:"loss_from"`
	LossTo   uint64 `json:"loss_to"`
	// Allow are the guards that are given up.
	Allow failover.Overrides `json:"allow"`
}

// void says why an approval is not of what is so now; "" if it is.
func (p *Approval) void(rec lease.Record, nodes []failover.Node) string {
	switch known := slices.ContainsFunc(nodes, func(n failover.Node) bool { return n.ID == p.To }); {
	case p.Epoch != uint64(rec.Epoch) || p.Writer != rec.Holder:
		return fmt.Sprintf("%s has approved that %q, the writer of epoch %d, is replaced, and the record names %s for epoch %d", p.By, p.Writer, p.Epoch, rec.Holder, rec.Epoch)
	case !known || p.To == rec.Holder:
		return fmt.Sprintf("%s has approved that %q becomes the writer, which is none of the nodes that could", p.By, p.To)
	}
	return ""
}

// allows are the guards that an approval gives up, for what it was told is lost.
func (p *Approval) allows() failover.Overrides {
	allow := p.Allow
	allow.AllowLag, allow.Loss = max(allow.AllowLag, failover.DefaultAllowLag), nil
	if allow.AcceptDataLoss {
		allow.Loss = &failover.Loss{From: p.LossFrom, To: p.LossTo}
	}
	return allow
}

// carriedOut says that the node of an approval has been given an epoch behind the one that
// it is of, and has not opened it yet: no guard is to be given up any more.
func carriedOut(p *Approval, rec lease.Record) bool {
	return p.To != "" && rec.Holder == p.To && uint64(rec.Epoch) > p.Epoch && !rec.Confirmed()
}

// askAgain has a person asked once more, whose approval is void, and says what is so now.
func (h *Handler) askAgain(ctx context.Context, ask Ask, why string, a *Answer) error {
	a.because(ApprovalVoid, "%s: it is void", why)
	holder := a.Writer
	if a.Target != "" {
		ask.Approval = nil
		if err := h.decide(ctx, ask, a, true); err != nil {
			return err
		}
	}
	a.Verdict, a.Run, a.Writer, a.AfterSeconds = Verdict(failover.Page), "", holder, 0
	return nil
}
