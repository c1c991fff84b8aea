package failover

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"originchain/shared/registry"
)

// The steps, in their order.
const (
	stepConfirm = "confirm"
	stepFence   = "fence"
	stepUnit    = "derive unit"
	stepRaise   = "raise epoch"
	stepPromote = "promote"
	stepSmoke   = "smoke"
	stepDNS     = "dns"
	stepRecord  = "record"
)

// stepNames are all steps, in their order.
func stepNames() []string {
	return []string{stepConfirm, stepFence, stepUnit, stepRaise, stepPromote, stepSmoke, stepDNS, stepRecord}
}

// StepNames are the steps of a failover, in their order: the first is for Begin, the
// others for Continue.
func StepNames() []string { return stepNames() }

// Outcome is what became of a step.
type Outcome string

// The outcomes.
const (
	// OK: done, now or by a run before.
	OK Outcome = "ok"
	// Would: a dry run has done nothing.
	Would Outcome = "would"
	// Left: it could not be done and does not keep the writer from writing. The same
	// command, run again, does it.
	Left Outcome = "left"
	// Failed: the run ends with it.
	Failed Outcome = "failed"
)

// Step is what a step did. Its JSON is stable.
type Step struct {
	N       int     `json:"n"`
	Name    string  `json:"name"`
	Outcome Outcome `json:"outcome"`
	Detail  string  `json:"detail"`
	Seconds float64 `json:"seconds"`
}

// Report is what a run did. Its JSON is stable.
type Report struct {
	// Run names the run; a process that goes on with one has its name.
	Run     string   `json:"run,omitempty"`
	Verdict Verdict  `json:"verdict"`
	Reasons []Reason `json:"reasons"`
	Steps   []Step   `json:"steps"`
	// Epoch is the new writer's; 0 if there is none.
	Epoch uint64 `json:"epoch"`
	From  string `json:"from"`
	To    string `json:"to"`
	// LostFrom and LostTo are the LSNs that were durable on the old writer, as far as
	// anybody had heard, and are not on the new one's line; 0 for none. An
	// acknowledgement that waited for a follower is never among them, unless its loss
	// was accepted by name.
	LostFrom uint64 `json:"lost_from"`
	LostTo   uint64 `json:"lost_to"`
	// LostExact: the old writer has come back since, and the range is that of the frames
	// which it has set aside (Returned), heard of before or not.
	LostExact bool      `json:"lost_exact"`
	Planned   bool      `json:"planned"`
	DryRun    bool      `json:"dry_run,omitempty"`
	StartedAt time.Time `json:"started_at"`
	Seconds   float64   `json:"seconds"`
	// PauseSeconds is from the begin of fence, or of the handover, until the new writer
	// was seen ready; 0 where this run saw only a part of that.
	PauseSeconds float64 `json:"pause_seconds"`
	// Notes are what a person should know: what was done in another way than the usual,
	// what was left, which other process had begun.
	Notes []string `json:"notes"`
	Error string   `json:"error,omitempty"`
}

// LastFailover is the report of the last run that made a writer; false if there is none.
func LastFailover(ctx context.Context, reg registry.Store) (r Report, ok bool, err error) {
	doc, err := load(ctx, reg, reportKey)
	if err != nil || doc.Version == 0 {
		return r, false, err
	}
	if err := json.Unmarshal(doc.Body, &r); err != nil {
		return r, false, fmt.Errorf("%s in the registry is no report: %w", reportKey, err)
	}
	return r, true, nil
}

// Event is a moment of a run: a step begins (Outcome is ""), ends, or has something to
// say (Note).
type Event struct {
	N, Of   int
	Name    string
	Outcome Outcome
	Detail  string
	Seconds float64
	Note    string
}

// Progress is told of each moment of a run, in order, by one goroutine.
type Progress func(Event)

// Print is a Progress for people: a line for each step, and for each note.
func Print(w io.Writer) Progress {
	return func(e Event) {
		switch {
		case e.Note != "":
			_, _ = fmt.Fprintf(w, "      %s\n", e.Note)
		case e.Outcome == "":
		case e.Outcome == OK:
			_, _ = fmt.Fprintf(w, "[%d/%d] %s … ok (%.2f s)\n", e.N, e.Of, e.Name, e.Seconds)
		default:
			_, _ = fmt.Fprintf(w, "[%d/%d] %s … %s (%.2f s): %s\n", e.N, e.Of, e.Name, e.Outcome, e.Seconds, e.Detail)
		}
	}
}

// RefusedError says that nothing was done, because of a decision.
type RefusedError struct{ Decision Decision }

// Error implements error.
func (e *RefusedError) Error() string {
	var because, flags []string
	for _, r := range e.Decision.Reasons {
		because = append(because, r.Detail)
		if r.Override != "" {
			flags = append(flags, r.Override)
		}
	}
	text := fmt.Sprintf("nothing was done (%s): %s", e.Decision.Verdict, strings.Join(because, "; "))
	if len(flags) > 0 {
		text += ". To do it all the same: " + strings.Join(flags, " ")
	}
	return text
}

// OtherRunError says that another node is being made the writer.
type OtherRunError struct{ Run, To, Step string }

// Error implements error.
func (e *OtherRunError) Error() string {
	return fmt.Sprintf("failover %s, which makes %s the writer, is under way (%s) and can still come to its end; let it, or finish it with --follower-instance %s, and switch over then", e.Run, e.To, e.Step, e.To)
}

// MovedError says that the record is not the one that the run began with.
type MovedError struct {
	Holder string
	Epoch  uint64
	What   string
}

// Error implements error.
func (e *MovedError) Error() string {
	return fmt.Sprintf("%s: %s holds epoch %d now; this run ends here and has made nobody a writer. Look at the instance, and run again if that is still wanted", e.What, e.Holder, e.Epoch)
}

// LeftError says that the new writer writes, and what is still to be done.
type LeftError struct {
	To    string
	Epoch uint64
	Steps []Step
}

// Error implements error.
func (e *LeftError) Error() string {
	var left []string
	for _, s := range e.Steps {
		left = append(left, s.Name+": "+s.Detail)
	}
	return fmt.Sprintf("%s is the writer of epoch %d, and this was left: %s. Run the same command again when that is mended", e.To, e.Epoch, strings.Join(left, "; "))
}
