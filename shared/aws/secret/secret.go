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
)

// KeptFor is how long a value is used before it is read again: one that was changed is
// known by then.
const KeptFor = 5 * time.Minute

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

// Value is the secret's text, without white space around it.
func (s *Secret) Value(ctx context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.value != "" && time.Since(s.at) < KeptFor {
		return s.value, nil
	}
	out, err := s.client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &s.id})
	if err != nil {
		return "", fmt.Errorf("read the secret %s: %w", s.id, err)
	}
	value := strings.TrimSpace(aws.ToString(out.SecretString))
	if value == "" || len(value) > MaxBytes || strings.ContainsAny(value, "\r\n") {
		return "", errors.New("the secret " + s.id + " is not one line of text")
	}
	s.value, s.at = value, time.Now()
	return value, nil
}

// String names the secret, and not its value.
func (s *Secret) String() string { return "the secret " + s.id }
