// Package secret reads secrets from AWS Secrets Manager. Nothing of a secret is in an
// error or a log.
package secret

import (
	"context"
	"errors"
	"fmt"
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
	reading := ctx
	if s.value != "" { // which serves on: whoever asks has other things to do with its time
		short, cancel := context.WithTimeout(ctx, renewWithin)
		defer cancel()
		reading = short
	}
	value, err := s.read(reading)
	switch {
	case err == nil:
		s.value, s.at = value, time.Now()
	case s.value == "" || !session.Temporary(err) && !errors.Is(err, context.DeadlineExceeded):
		return "", err
	default:
		s.at = time.Now().Add(renewAgain - KeptFor)
	}
	return s.value, nil
}

func (s *Secret) read(ctx context.Context) (string, error) {
	out, err := s.client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &s.id})
	if err != nil {
		return "", fmt.Errorf("read the secret %s: %w", s.id, err)
	}
	if made := aws.ToTime(out.CreatedDate); time.Since(made) < SettlesIn {
		before, err := s.client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &s.id, VersionStage: aws.String("AWSPREVIOUS")})
		var none *types.ResourceNotFoundException
		switch {
		case err == nil:
			out = before
		case !errors.As(err, &none):
			return "", fmt.Errorf("read the value before the last of secret %s: %w", s.id, err)
		}
	}
	value := strings.TrimSpace(aws.ToString(out.SecretString))
	if value == "" || len(value) > MaxBytes || strings.ContainsAny(value, "\r\n") {
		return "", errors.New("the secret " + s.id + " is not one line of text")
	}
	return value, nil
}

// String names the secret, and not its value.
func (s *Secret) String() string { return "the secret " + s.id }
