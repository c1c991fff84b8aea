// Package sesmail sends e-mail through Amazon SES. A message is sent once: an answer that
// was lost may be of one that was sent, and whoever tries again says so by its delivery id.
package sesmail

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	"github.com/aws/aws-sdk-go-v2/service/sesv2/types"

	"originchain/shared/notice"
)

// Mail sends from one address.
type Mail struct {
	client *sesv2.Client
	from   string
}

// New checks the sender. It sends nothing.
func New(cfg aws.Config, from string) (*Mail, error) {
	if err := notice.CheckAddress(from); err != nil {
		return nil, fmt.Errorf("the sender's address: %w", err)
	}
	return &Mail{sesv2.NewFromConfig(cfg, func(o *sesv2.Options) { o.Retryer = aws.NopRetryer{} }), from}, nil
}

// Send makes one attempt. nil: the service has taken the message. An error is
// notice.ErrRefused if another attempt would be refused too.
func (m *Mail) Send(ctx context.Context, msg notice.Message) error {
	if err := notice.CheckAddress(msg.To); err != nil {
		return err
	}
	if strings.ContainsFunc(msg.Subject+msg.Delivery, unicode.IsControl) || msg.Delivery == "" {
		return fmt.Errorf("%w: a line break or control character in a header", notice.ErrRefused)
	}
	if len(msg.Text)+len(msg.Subject) > notice.MaxMessageBytes {
		return fmt.Errorf("%w: a message of %d bytes, at most %d", notice.ErrRefused, len(msg.Text), notice.MaxMessageBytes)
	}
	ctx, cancel := context.WithTimeout(ctx, notice.AttemptTimeout)
	defer cancel()
	utf8 := aws.String("UTF-8")
	_, err := m.client.SendEmail(ctx, &sesv2.SendEmailInput{
		FromEmailAddress: &m.from, Destination: &types.Destination{ToAddresses: []string{msg.To}},
		Content: &types.EmailContent{Simple: &types.Message{
			Subject: &types.Content{Data: &msg.Subject, Charset: utf8},
			Body:    &types.Body{Text: &types.Content{Data: &msg.Text, Charset: utf8}},
			Headers: []types.MessageHeader{
				{Name: aws.String(notice.HeaderDelivery), Value: &msg.Delivery}, {Name: aws.String("Auto-Submitted"), Value: aws.String("auto-generated")},
			},
		}},
	})
	var rejected *types.MessageRejected
	switch {
	case errors.As(err, &rejected):
		return fmt.Errorf("%w: %w", notice.ErrRefused, err)
	case err != nil:
		return fmt.Errorf("SES has not taken the message: %w", err)
	}
	return nil
}
