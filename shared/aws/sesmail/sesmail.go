// Package sesmail sends e-mail through Amazon SES. A message is sent once: an answer that
// was lost may be of one that was sent, and whoever tries again says so by its delivery id:
// the service puts a Message-ID and a Date of its own in place of ours.
package sesmail

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	"github.com/aws/aws-sdk-go-v2/service/sesv2/types"
	"github.com/aws/smithy-go"

	"originchain/shared/notice"
)

// Mail sends from one address.
type Mail struct {
	client *sesv2.Client
	from   string
	now    func() time.Time
}

// New checks the sender. It sends nothing.
func New(cfg aws.Config, from string, now func() time.Time) (*Mail, error) {
	if err := notice.CheckAddress(from); err != nil {
		return nil, fmt.Errorf("the sender's address: %w", err)
	}
	return &Mail{sesv2.NewFromConfig(cfg, func(o *sesv2.Options) { o.Retryer = aws.NopRetryer{} }), from, now}, nil
}

// Send makes one attempt. nil: the service has taken the message. An error is
// notice.ErrRefused if the message is one that no attempt could send. What the service
// rejects is none of that: it says the same of a message as of a sender's identity that is
// not verified any more, and that can be mended.
func (m *Mail) Send(ctx context.Context, msg notice.Message) error {
	text, err := notice.Compose(m.from, m.now(), msg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, notice.AttemptTimeout)
	defer cancel()
	_, err = m.client.SendEmail(ctx, &sesv2.SendEmailInput{
		FromEmailAddress: &m.from, Destination: &types.Destination{ToAddresses: []string{msg.To}},
		Content: &types.EmailContent{Raw: &types.RawMessage{Data: text}},
	})
	if err != nil {
		return &Error{said(err, msg.To), err}
	}
	return nil
}

// Error says why the service has not taken a message: its code and its words come first,
// since no more than the beginning is kept of a failure, and the recipient's address is not
// in it.
type Error struct {
	text string
	err  error
}

// Error implements error.
func (e *Error) Error() string { return "SES: " + e.text }

// Unwrap is what the SDK says.
func (e *Error) Unwrap() error { return e.err }

func said(err error, to string) string {
	text := err.Error()
	var answer smithy.APIError
	if errors.As(err, &answer) {
		text = answer.ErrorCode() + ": " + answer.ErrorMessage()
	}
	return regexp.MustCompile(`(?i)`+regexp.QuoteMeta(to)).ReplaceAllLiteralString(text, "…")
}
