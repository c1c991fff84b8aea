package silence

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

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

// maxAnswerBytes bounds what a person answers, maxQuoted what is told of it, in characters.
const (
	maxAnswerBytes = 4 << 10
	maxQuoted      = 200
)

// readApproval reads what a person has written, or says why it cannot be read. It takes
// nothing for what it is not: a key that is misspelt may be the one that says no, and one that
// is missing says neither.
func readApproval(raw []byte) (p *Approval, why string) {
	var has struct {
		Approve *bool           `json:"approve"`
		Allow   json.RawMessage `json:"allow"`
	}
	p = new(Approval)
	switch err := json.Unmarshal(raw, p); {
	case len(raw) > maxAnswerBytes:
		why = fmt.Sprintf("it has %d bytes, and an approval at most %d", len(raw), maxAnswerBytes)
	case err != nil:
		why = mistyped(err)
	default:
		_ = json.Unmarshal(raw, &has) // it is an object, as was seen
		why = strange(raw, "approve", "by", "epoch", "writer", "to", "loss_from", "loss_to", "allow")
		if why == "" && len(has.Allow) > 0 {
			why = strange(has.Allow, "allow_slow_writer", "allow_lag", "allow_backfilling", "accept_data_loss")
		}
	}
	switch {
	case why != "":
	case has.Approve == nil:
		why = `it has no "approve", which is true or false`
	case strings.TrimSpace(p.By) == "":
		why = `it has no "by": who is it that approves or rejects?`
	default:
		return p, ""
	}
	return nil, fmt.Sprintf("an answer that cannot be read is neither a yes nor a no: %s. It was %.*s", why, maxQuoted, raw)
}

// mistyped says what is of another type than it is to be.
func mistyped(err error) string {
	var is *json.UnmarshalTypeError
	if !errors.As(err, &is) {
		return err.Error()
	}
	name, want := "it", "an object, {…}"
	if is.Field != "" {
		name = strconv.Quote(is.Field)
	}
	switch is.Type.Kind() {
	case reflect.Bool:
		want = "true or false, without quotes"
	case reflect.Uint64:
		want = "a whole number from 0 on, without quotes"
	case reflect.String:
		want = "text, in quotes"
	}
	return fmt.Sprintf("%s is a %s, and is to be %s", name, is.Value, want)
}

// strange says what an object has that it is not to have: an unknown key, or one twice.
func strange(raw []byte, known ...string) string {
	keys := json.NewDecoder(bytes.NewReader(raw))
	if open, err := keys.Token(); err != nil || open != json.Delim('{') {
		return "" // null, as its type was seen to be right
	}
	had := make(map[string]bool)
	for keys.More() {
		key, err := keys.Token()
		name, _ := key.(string)
		var value json.RawMessage
		if err == nil {
			err = keys.Decode(&value)
		}
		switch {
		case err != nil:
			return err.Error()
		case !slices.Contains(known, name):
			return fmt.Sprintf("%q is none of its keys, which are %s", name, strings.Join(known, ", "))
		case had[name]:
			return fmt.Sprintf("it has %q twice", name)
		}
		had[name] = true
	}
	return ""
}

// void says why nothing is done by what a person has answered, and the person is asked again;
// "" if an approval is of what is so now, or nobody has answered.
func (c *change) void(rec lease.Record, nodes []failover.Node, left bool) string {
	p := c.ask.said
	switch {
	case c.ask.unread != "":
		return c.ask.unread
	case p != nil && c.refused():
		return fmt.Sprintf("%s has approved, and was not told that %s has refused before", p.By, c.no.By)
	case p != nil && !carriedOut(p, rec):
		return p.void(rec, nodes, left)
	}
	return ""
}

// unanswered has a person know who is called again, since no word has come by the last call.
func (c *change) unanswered(a *Answer) {
	own := c.entry.Execution == c.ask.Execution && called(c.entry.Verdict)
	if own && c.ask.Told != nil && !c.ask.answered() && c.ask.Round == 0 && called(a.Verdict) {
		a.because(ApprovalVoid, "somebody was called by this execution before, and no answer has come; null is none")
	}
}

// void says why an approval is not of what is so now; "" if it is. left: a failover to the
// holder itself is to be finished.
func (p *Approval) void(rec lease.Record, nodes []failover.Node, left bool) string {
	switch known := slices.ContainsFunc(nodes, func(n failover.Node) bool { return n.ID == p.To }); {
	case p.Epoch != uint64(rec.Epoch) || p.Writer != rec.Holder:
		return fmt.Sprintf("%s has approved that %q, the writer of epoch %d, is replaced, and the record names %s for epoch %d", p.By, p.Writer, p.Epoch, rec.Holder, rec.Epoch)
	case !known || p.To == rec.Holder && !left:
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

// askAgain has a person asked once more, whose approval is void if why says so, or who has not
// answered, and says what is so now; none is why there is no target where there is none.
func (h *Handler) askAgain(ctx context.Context, c change, why string, none failover.Reason, a *Answer) error {
	if why != "" {
		a.because(ApprovalVoid, "%s: it is void", why)
	}
	holder := a.Writer
	if a.Target == "" {
		a.because(none.Code, "%s", none.Detail)
	} else {
		c.ask.said = nil
		if err := h.decide(ctx, c, a, true); err != nil {
			return err
		}
	}
	a.Verdict, a.Run, a.Writer, a.AfterSeconds = Verdict(failover.Page), "", holder, 0
	return nil
}
