package restore

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"originchain/shared/archive"
	"originchain/shared/lsn"
)

// Where the replay begins: at the newest checkpoint from which all frames up to the
// target are there, or at one that was named.
//
// A checkpoint of whose manifest the head cannot be read is known as such before a plan
// is made, and is done without: the plan and the result say so. One whose files, or the
// rest of whose manifest, turn out damaged or missing when they are fetched ends the
// restore. Its error names the checkpoints that
// are left, and one is taken only when it is named. To go on by itself with an older one
// was refused: the state would be the same, and its digest would prove it, but the replay
// may take hours more than was planned for, while the object, in a bucket that keeps
// versions, may be put back in minutes; and that an archive is damaged is not to be
// found in a log by chance.

// Begin is a place where a replay can begin. LSN 0 is the beginning of the log, without
// a checkpoint.
type Begin struct {
	LSN   lsn.LSN   `json:"lsn"`
	Epoch lsn.Epoch `json:"epoch,omitempty"`
}

// CheckpointError refuses a checkpoint that was named, and says which can be.
type CheckpointError struct {
	Named  lsn.LSN `json:"named"`
	Target lsn.LSN `json:"target_lsn"`
	// Begins are those from which the target can be reached, the newest first.
	Begins []Begin `json:"checkpoints"`
}

// Error implements error.
func (e *CheckpointError) Error() string {
	return fmt.Sprintf("--checkpoint %d is no checkpoint from which LSN %d can be reached, or its manifest cannot be read; %s", e.Named, e.Target, named(e.Begins))
}

// BeginError says that the checkpoint where the replay was to begin cannot be used, and
// which others can be tried.
type BeginError struct {
	LSN    lsn.LSN `json:"checkpoint_lsn"`
	Begins []Begin `json:"checkpoints"`
	Err    error   `json:"-"`
}

// Error implements error.
func (e *BeginError) Error() string {
	return fmt.Sprintf("the checkpoint at LSN %d cannot be used: %v. No other one was taken in its place; %s", e.LSN, e.Err, named(e.Begins))
}

// Unwrap gives the cause.
func (e *BeginError) Unwrap() error { return e.Err }

// maxNamed bounds the checkpoints that a message names.
const maxNamed = 8

func named(list []Begin) string {
	if len(list) == 0 {
		return "there is no other place to begin at: oc-pitr list shows which targets have one"
	}
	var b strings.Builder
	b.WriteString("the replay can begin at")
	for i, x := range list {
		if i == maxNamed {
			fmt.Fprintf(&b, ", and %d more that oc-pitr list shows", len(list)-i)
			break
		}
		if i > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, " --checkpoint %d", x.LSN)
		if x.LSN == 0 {
			b.WriteString(" (the beginning of the log)")
		}
	}
	return b.String()
}

// begins are the places from which all frames up to a target are there, the newest
// first.
func begins(l *archive.Line, target lsn.LSN) []Begin {
	out := []Begin{}
	for _, c := range slices.Backward(l.Checkpoints) {
		rg := l.RangeOf(c.LSN + 1)
		if c.LSN == target || c.LSN < target && rg != nil && rg.To >= target {
			out = append(out, Begin{c.LSN, c.Epoch})
		}
	}
	if rg := l.RangeOf(1); rg != nil && rg.To >= target {
		out = append(out, Begin{})
	}
	return out
}

// choose sets where the replay begins; nil names nothing, and takes the newest.
func (p *Plan) choose(name *lsn.LSN) error {
	list := begins(p.line, p.Target.LSN)
	if name == nil {
		if len(list) > 0 {
			p.start(list[0])
		}
		return nil
	}
	i := slices.IndexFunc(list, func(b Begin) bool { return b.LSN == *name })
	if i < 0 {
		return &CheckpointError{Named: *name, Target: p.Target.LSN, Begins: list}
	}
	p.start(list[i])
	return nil
}

// start makes the replay begin at one of the begins.
func (p *Plan) start(at Begin) {
	p.Checkpoint, p.CheckpointBytes, p.Segments, p.Parts, p.LogBytes = nil, 0, 0, 0, 0
	for i := range p.line.Checkpoints {
		if c := &p.line.Checkpoints[i]; c.LSN == at.LSN && c.Epoch == at.Epoch {
			p.Checkpoint = c
		}
	}
	p.replayFrom()
}

// beginFault is the error of a checkpoint that cannot be read where the replay was to
// begin with it; another error stays as it is.
func (p *Plan) beginFault(err error) error {
	if err == nil || p.Checkpoint == nil || errors.Is(err, errLocal) || !unreadable(err) {
		return err
	}
	c := p.Checkpoint
	others := slices.DeleteFunc(begins(p.line, p.Target.LSN), func(b Begin) bool { return b.LSN == c.LSN })
	return &BeginError{LSN: c.LSN, Begins: others, Err: err}
}
