package sql

import (
	"context"
	"errors"

	ast "github.com/dolthub/vitess/go/vt/sqlparser"

	"originchain/shared/fault"
)

// errRanTooLong is why the context of a statement ended that had its time.
var errRanTooLong = errors.New("the statement ran for as long as it may")

// limit gives a statement the time that it may take. To build an index takes as
// long as the table is large, and is finite; a limit would make it impossible.
func (e *Engine) limit(ctx context.Context, cmd *command) (context.Context, context.CancelFunc) {
	if _, index := cmd.stmt.(*ast.AlterTable); index || e.cfg.StatementTimeout == 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, e.cfg.StatementTimeout, errRanTooLong)
}

// whyEnded tells a client whose statement ran out of time what to do. An error
// that says more stays: that of a commit says whether something was written, and
// an answer is an answer even if it came late.
func (e *Engine) whyEnded(ctx context.Context, err error) error {
	var f *fault.Error
	if errors.As(err, &f) || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(context.Cause(ctx), errRanTooLong) {
		return err
	}
	return fault.New(fault.Cancelled, "the statement ran for %s, which is as long as this server lets one run (--statement-timeout), and nothing of it was kept; narrow it by WHERE or an index (EXPLAIN shows what it reads), or split it", e.cfg.StatementTimeout).Wrap(err)
}
