package awsenv

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambda/messages"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/sirupsen/logrus"

	"originchain/lambdas/outcome"
	"originchain/shared/telemetry"
)

// Function is one of ours.
type Function struct {
	Name string
	// Needs and May are the variables of its environment.
	Needs, May []string
	// Open makes what answers calls.
	Open func(ctx context.Context, e *Env, log *logrus.Logger) (Handler, error)
}

// Handler answers one call with what becomes JSON.
type Handler func(ctx context.Context, c Call) (any, error)

// Call is one call.
type Call struct {
	Payload []byte
	// Account, Region and Partition are where the function is, by its ARN.
	Account, Region, Partition string
	Log                        logrus.FieldLogger
}

// Payload is a Handler that needs no more of a call than what it carries.
func Payload[A any](handle func(context.Context, []byte) (A, error)) Handler {
	return func(ctx context.Context, c Call) (any, error) { return handle(ctx, c.Payload) }
}

// Main runs a function until its environment ends. It does not return.
func Main(f Function) {
	log, err := telemetry.NewLogger(os.Stderr, "info")
	if err == nil {
		var h func(context.Context, json.RawMessage) (json.RawMessage, error)
		if h, err = f.start(context.Background(), os.Getenv, log); err == nil {
			lambda.Start(h)
		}
	}
	die(os.Stderr, f.Name, err)
}

// die ends a function that cannot begin.
func die(w io.Writer, name string, err error) {
	_, _ = fmt.Fprintf(w, "%s cannot begin: %s\n", name, telemetry.Redact(err.Error()))
	os.Exit(1)
}

// start makes what the loop calls.
func (f *Function) start(ctx context.Context, getenv func(string) string, log *logrus.Logger) (func(context.Context, json.RawMessage) (json.RawMessage, error), error) {
	env, err := Read(getenv, f.Needs, f.May)
	if err != nil {
		return nil, err
	}
	h, err := f.Open(ctx, env, log)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, payload json.RawMessage) (json.RawMessage, error) {
		c := Call{Payload: payload, Log: log}
		if lc, ok := lambdacontext.FromContext(ctx); ok {
			c.Log = log.WithFields(logrus.Fields{"request_id": lc.AwsRequestID, "function": f.Name})
			if at := strings.SplitN(lc.InvokedFunctionArn, ":", 6); len(at) == 6 {
				c.Partition, c.Region, c.Account = at[1], at[3], at[4]
			}
		}
		return answer(ctx, h, c)
	}, nil
}

// answer makes JSON of what a handler answers, and of an error one that has its name.
func answer(ctx context.Context, h Handler, c Call) (json.RawMessage, error) {
	out, err := h(ctx, c)
	if err != nil {
		name := outcome.Of(err)
		text := telemetry.Redact(err.Error())
		c.Log.WithField("error_type", name).Error(text)
		return nil, messages.InvokeResponse_Error{Type: string(name), Message: text}
	}
	b, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("the answer is no JSON: %w", err)
	}
	return b, nil
}
