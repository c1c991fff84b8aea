package ssmcontrol

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"originchain/shared/aws/session"
)

// UnreachableError says that SSM does not reach the machine. Nothing was done there.
type UnreachableError struct {
	// Order is what was to be done.
	Order, Machine string
	Err            error
}

// Error implements error.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("%s: SSM does not reach %s, and nothing was done: %v; see whether the machine runs, and its SSM agent", e.Order, e.Machine, e.Err)
}

// Unwrap gives the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// UnknownError says that what became of a command is not known. One that changes something
// may have been carried out, in part too, or may be yet: until the record has another
// epoch.
type UnknownError struct {
	Order, Machine string
	// Command is SSM's id; "" if that is not known either.
	Command string
	// Epoch is the one that the command carries, "0" for none.
	Epoch string
	Err   error
}

// Error implements error.
func (e *UnknownError) Error() string {
	command := "the command"
	if e.Command != "" {
		command += " " + e.Command
	}
	if e.Epoch == noEpoch {
		return fmt.Sprintf("%s: %s has not answered: %s: %v", e.Order, e.Machine, command, e.Err)
	}
	return fmt.Sprintf("%s: nobody knows whether %s has carried it out or will: %s: %v; once epoch %s has been followed by another, the machine refuses it",
		e.Order, e.Machine, command, e.Err, e.Epoch)
}

// Unwrap gives the cause.
func (e *UnknownError) Unwrap() error { return e.Err }

// EpochError says that a command is of another epoch than the record of who writes: the
// machine has refused it, or could not read the record, or it was not sent. Nothing was done.
type EpochError struct {
	Order, Machine, Epoch string
	// Found is the record's epoch, where the command was not sent.
	Found uint64
	// Said is what the machine printed.
	Said string
}

// Error implements error.
func (e *EpochError) Error() string {
	if e.Found != 0 {
		return fmt.Sprintf("%s: the record of who writes is of epoch %d by now, and this is of epoch %s; nothing was sent to %s", e.Order, e.Found, e.Epoch, e.Machine)
	}
	return fmt.Sprintf("%s: %s has refused it, as the record of who writes is not known there to be of epoch %s, and nothing was done: %s", e.Order, e.Machine, e.Epoch, e.Said)
}

// FailedError says that the machine has tried, and how that ended.
type FailedError struct {
	Order, Machine string
	Code           int
	// Said is what the machine printed.
	Said string
}

// Error implements error.
func (e *FailedError) Error() string {
	return fmt.Sprintf("%s: it failed on %s with exit code %d: %s", e.Order, e.Machine, e.Code, e.Said)
}

// onlyRefused is a Retryer for what must not be done twice: only what SSM has refused for
// there being too many requests is sent again, and what no connection was made for.
func (c *Control) onlyRefused() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts, o.MaxBackoff = attempts, c.config.pause(maxBackoff)
		o.Retryables = []retry.IsErrorRetryable{retry.NoRetryCanceledError{}, retry.IsErrorRetryableFunc(func(err error) aws.Ternary {
			return aws.BoolTernary(session.Throttled(err) || notDialed(err))
		})}
	})
}

// notDialed says that there was no connection that a request could have gone over.
func notDialed(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// notTaken says that SSM has refused a request, or has not got it: nothing will come of it.
func notTaken(err error) bool {
	var answer *awshttp.ResponseError
	if errors.As(err, &answer) && answer.HTTPStatusCode() != 0 {
		return answer.HTTPStatusCode() >= http.StatusBadRequest && answer.HTTPStatusCode() < http.StatusInternalServerError
	}
	return notDialed(err)
}

// pause is a pause, or that of tests.
func (c Config) pause(d time.Duration) time.Duration {
	if c.pace > 0 {
		return c.pace
	}
	return d
}

// follow asks after a command until it has ended, and returns what it printed.
func (c *Control) follow(ctx context.Context, o order) (printed string, err error) {
	unknown := func(err error) error {
		return &UnknownError{Order: o.String(), Machine: o.node.Machine, Command: o.command, Epoch: o.epoch, Err: err}
	}
	last := errors.New("its state was not asked for yet")
	pause := firstPoll
	for {
		if err := c.rest(ctx, pause); err != nil {
			return "", unknown(fmt.Errorf("%w; what was heard of it last: %w", err, last))
		}
		pause = min(pause*3/2, lastPoll)
		out, err := c.client.GetCommandInvocation(ctx, &ssm.GetCommandInvocationInput{CommandId: &o.command, InstanceId: &o.node.Machine})
		var notYet *types.InvocationDoesNotExist // SSM's parts learn of it one after another
		switch {
		case errors.As(err, &notYet):
			last = errors.New("SSM does not know yet of it on the machine")
		case err != nil && (ctx.Err() != nil || session.Temporary(err)):
			if ctx.Err() == nil {
				last = err
			}
		case err != nil:
			return "", unknown(fmt.Errorf("ask after it: %w", err))
		default:
			if printed, ended, err := o.ended(out); ended || err != nil {
				return printed, err
			}
			last = fmt.Errorf("it is %s", aws.ToString(out.StatusDetails))
		}
	}
}

// ended says what has become of a command, if it has ended.
func (o order) ended(out *ssm.GetCommandInvocationOutput) (printed string, ended bool, err error) {
	// Details come with spaces and without: "Delivery Timed Out".
	details := strings.ReplaceAll(aws.ToString(out.StatusDetails), " ", "")
	said := strings.TrimSpace(aws.ToString(out.StandardErrorContent))
	switch out.Status {
	case types.CommandInvocationStatusPending, types.CommandInvocationStatusInProgress, types.CommandInvocationStatusDelayed, types.CommandInvocationStatusCancelling:
		return "", false, nil
	case types.CommandInvocationStatusSuccess:
		return aws.ToString(out.StandardOutputContent), true, nil
	case types.CommandInvocationStatusTimedOut:
		if details == "DeliveryTimedOut" {
			return "", true, &UnreachableError{Order: o.String(), Machine: o.node.Machine, Err: fmt.Errorf("the command %s was not delivered in %d seconds", o.command, deliverySeconds)}
		}
	case types.CommandInvocationStatusFailed:
		switch {
		case details == "Undeliverable":
			return "", true, &UnreachableError{Order: o.String(), Machine: o.node.Machine, Err: fmt.Errorf("the command %s is undeliverable", o.command)}
		case details == "Failed" && out.ResponseCode == ExitEpoch && !o.verb.reads():
			return "", true, &EpochError{Order: o.String(), Machine: o.node.Machine, Epoch: o.epoch, Said: said}
		case details == "Failed":
			return "", true, &FailedError{Order: o.String(), Machine: o.node.Machine, Code: int(out.ResponseCode), Said: said}
		}
	}
	return "", true, &UnknownError{Order: o.String(), Machine: o.node.Machine, Command: o.command, Epoch: o.epoch,
		Err: fmt.Errorf("it has ended as %s: %s: %s", out.Status, aws.ToString(out.StatusDetails), said)}
}

// callBack cancels a command that was not heard of. It need not succeed: what is delivered
// all the same is refused once the epoch has been followed by another.
func (c *Control) callBack(ctx context.Context, o order) {
	if o.command == "" {
		return
	}
	if ctx.Err() != nil { // the caller has gone before its time was over
		ctx = context.WithoutCancel(ctx)
	}
	short, cancel := context.WithTimeout(ctx, cancelTime)
	defer cancel()
	_, _ = c.client.CancelCommand(short, &ssm.CancelCommandInput{CommandId: &o.command, InstanceIds: []string{o.node.Machine}},
		func(options *ssm.Options) { options.Retryer = aws.NopRetryer{} }) // the caller is told that nobody knows
}

// rest is session.Rest, with the pause of tests.
func (c *Control) rest(ctx context.Context, pause time.Duration) error {
	return session.Rest(ctx, c.config.pause(pause))
}
