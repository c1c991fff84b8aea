// Package secret reads secrets from AWS Secrets Manager. Nothing of a secret is in an
// error or a log.
package secret

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"originchain/shared/aws/session"
)

const (
	// KeptFor is how long a value is used before it is read again.
	KeptFor = 5 * time.Minute
	// SettlesIn is how old a new value is before it is used in place of the one before it:
	// those who are to take it have read it by then. They take the old one for longer.
	SettlesIn = 15 * time.Minute
	// renewWithin bounds the reading where a value is known, renewAgain is when it is tried
	// again.
	renewWithin = time.Second
	renewAgain  = 30 * time.Second
)

// MaxBytes bounds a secret.
const MaxBytes = 4 << 10

// Secret is one by its ARN or name. It is safe for concurrent use.
type Secret struct {
	client *secretsmanager.Client
	id     string

	mu    sync.Mutex
	value string
	at    time.Time
	// asked is when the service was asked last. other is the one of the current value and the
	// one before it that is not used, before what was used until value was.
	asked         time.Time
	other, before string
}

// New makes a Secret. It sends nothing.
func New(cfg aws.Config, id string) *Secret {
	return &Secret{client: secretsmanager.NewFromConfig(cfg), id: id}
}

// Value is the secret's text, without white space around it. While a new value settles it is
// the one before. One that is known serves on where the service is away.
func (s *Secret) Value(ctx context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.value != "" && time.Since(s.at) < KeptFor {
		return s.value, nil
	}
	err := s.renew(ctx)
	switch {
	case err == nil:
	case s.value == "" || !session.Temporary(err) && !errors.Is(err, context.DeadlineExceeded):
		return "", err
	default:
		s.at = time.Now().Add(renewAgain - KeptFor)
	}
	return s.value, nil
}

// Other is a value to try where those were refused that are given; "" is none. Whoever takes
// the secret may have read it later than we have, or be a change behind: what is known is
// tried first, and then what the service says, unless it was asked a moment ago.
func (s *Secret) Other(ctx context.Context, refused []string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.known(refused); v != "" || time.Since(s.asked) < renewAgain {
		return v
	}
	_ = s.renew(ctx) // nothing new is known where the service is away
	return s.known(refused)
}

func (s *Secret) known(refused []string) string {
	for _, v := range []string{s.value, s.other, s.before} {
		if v != "" && !slices.Contains(refused, v) {
			return v
		}
	}
	return ""
}

// renew reads the values anew.
func (s *Secret) renew(ctx context.Context) error {
	if s.value != "" { // which serves on: whoever asks has other things to do with its time
		short, cancel := context.WithTimeout(ctx, renewWithin)
		defer cancel()
		ctx = short
	}
	s.asked = time.Now()
	use, other, err := s.read(ctx)
	if err != nil {
		return err
	}
	if s.value != use {
		s.before = s.value
	}
	s.value, s.other, s.at = use, other, time.Now()
	return nil
}

// read returns the value to use, and the other of the current one and the one before it; ""
// where there is none.
func (s *Secret) read(ctx context.Context) (use, other string, err error) {
	current, err := s.client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &s.id})
	if err != nil {
		return "", "", fmt.Errorf("read the secret %s: %w", s.id, err)
	}
	if use, err = s.line(current); err != nil {
		return "", "", err
	}
	settled := time.Since(aws.ToTime(current.CreatedDate)) >= SettlesIn
	before, err := s.client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &s.id, VersionStage: aws.String("AWSPREVIOUS")})
	var none *types.ResourceNotFoundException
	switch {
	case err != nil && (settled || errors.As(err, &none)): // the current one is used alone
		return use, "", nil
	case err != nil:
		return "", "", fmt.Errorf("read the value before the last of secret %s: %w", s.id, err)
	}
	if other, err = s.line(before); err != nil { // it was none that anybody could take
		return use, "", nil //nolint:nilerr // the current one is right
	}
	if !settled {
		use, other = other, use
	}
	return use, other, nil
}

func (s *Secret) line(out *secretsmanager.GetSecretValueOutput) (string, error) {
	value := strings.TrimSpace(aws.ToString(out.SecretString))
	if value == "" || len(value) > MaxBytes || strings.ContainsAny(value, "\r\n") {
		return "", errors.New("the secret " + s.id + " is not one line of text")
	}
	return value, nil
}

// String names the secret, and not its value.
func (s *Secret) String() string { return "the secret " + s.id }
