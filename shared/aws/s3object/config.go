// Package s3object is an object.Store in a bucket of Amazon S3, or of what speaks
// its protocol: conditional writes on PutObject and CompleteMultipartUpload,
// SHA-256 checksums, and lists in the order of bytes are needed. Directory buckets
// list in no order and are none.
package s3object

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"originchain/shared/aws/session"
	"originchain/shared/object"
)

const (
	// maxAttempts bounds how often a request is sent, maxBackoff how long the SDK,
	// with jitter, waits in between.
	maxAttempts = 5
	maxBackoff  = 5 * time.Second
	// answerTimeout bounds the wait for an answer once a request is sent.
	answerTimeout = 30 * time.Second
)

// Config says which bucket, and how to reach it.
type Config struct {
	Bucket string
	// Prefix comes before every key, with a slash between; "" for none.
	Prefix string
	// Region of the bucket; "" for that of the process (AWS_REGION, profile).
	Region string
	// Endpoint is the URL of a server that is not Amazon's, which is asked with the
	// bucket in the path; "" for Amazon's.
	Endpoint string
	// Credentials are what to sign with; nil for what the SDK finds: environment,
	// shared files, roles of container and instance.
	Credentials aws.CredentialsProvider
	// Remover is the ARN of a role that is taken to delete; "" deletes with Credentials.
	Remover string

	// maxBackoff is set by tests, which have no time.
	maxBackoff time.Duration
}

// Open is the object.Opener of s3://bucket/prefix?region=…&endpoint=…&remover=…
func Open(ctx context.Context, u *url.URL) (object.Store, error) {
	c, err := parse(u)
	if err != nil {
		return nil, err
	}
	return New(ctx, c)
}

// parse reads a URL. Its errors repeat no value of the query: who puts a secret
// there is told only that it does not belong there.
func parse(u *url.URL) (Config, error) {
	query, err := url.ParseQuery(u.RawQuery)
	switch {
	case u.User != nil:
		return Config{}, fmt.Errorf("%w: s3://%s… has a user in it; give credentials as the AWS SDK takes them", object.ErrURL, u.Host)
	case u.Host == "" || u.Opaque != "" || u.Fragment != "" || err != nil:
		return Config{}, fmt.Errorf("%w: it is not of the form s3://bucket/prefix?region=…&endpoint=…", object.ErrURL)
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if !slices.Contains([]string{"region", "endpoint", "remover"}, name) || len(query[name]) != 1 {
			return Config{}, fmt.Errorf("%w: s3://%s… has the parameter %q; region, endpoint and remover are known, once each", object.ErrURL, u.Host, name)
		}
	}
	return Config{Bucket: u.Host, Prefix: strings.Trim(u.Path, "/"), Region: query.Get("region"), Endpoint: query.Get("endpoint"), Remover: query.Get("remover")}, nil
}

func (c Config) validate() error {
	var faults []error
	if c.Bucket == "" || strings.ContainsAny(c.Bucket, "/:?#@") {
		faults = append(faults, fmt.Errorf("%q is not the name of a bucket", c.Bucket))
	}
	if c.Prefix != "" && object.CheckKey(c.Prefix) != nil {
		faults = append(faults, fmt.Errorf("the prefix: %w", object.CheckKey(c.Prefix)))
	}
	if err := session.CheckEndpoint(c.Endpoint); err != nil {
		faults = append(faults, err)
	}
	if c.Remover != "" && !roleForm.MatchString(c.Remover) {
		faults = append(faults, errors.New("the remover is not the ARN of a role (arn:aws:iam::<account>:role/<name>)"))
	}
	if len(faults) > 0 {
		return fmt.Errorf("%w: %w", object.ErrURL, errors.Join(faults...))
	}
	return nil
}

// String is the URL of the bucket.
func (c Config) String() string {
	u := url.URL{Scheme: "s3", Host: c.Bucket, Path: c.Prefix}
	if c.Prefix != "" {
		u.Path = "/" + c.Prefix
	}
	query := url.Values{}
	for name, value := range map[string]string{"region": c.Region, "endpoint": c.Endpoint, "remover": c.Remover} {
		if value != "" {
			query.Set(name, value)
		}
	}
	u.RawQuery = query.Encode()
	return u.String()
}

// Store is an object.Store in a bucket.
//
// Erase needs s3:ListBucketVersions and s3:DeleteObjectVersion, the rest
// s3:ListBucket, s3:GetObject, s3:PutObject, s3:AbortMultipartUpload and
// s3:DeleteObject, each where it is used; the role of Remover needs what deletes and
// lists, instead of the others. What uploads that were killed have left is
// for a lifecycle rule of the bucket.
type Store struct {
	config Config
	client *s3.Client
	// remover is the client for what deletes, and finds what to delete.
	remover *s3.Client
	prefix  string // of every key, "" or with a slash at its end
	bucket  bucket
}

var _ object.Store = (*Store)(nil)

// New returns the store in a bucket. It sends no request to it.
func New(ctx context.Context, c Config) (*Store, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	loaded, err := session.Load(ctx, session.Config{
		Region: c.Region, Endpoint: c.Endpoint, Credentials: c.Credentials, Transport: transport, AnswerTimeout: session.Unbounded,
		Retryer: func() aws.Retryer { return newRetryer(cmp.Or(c.maxBackoff, maxBackoff)) },
	})
	switch {
	case errors.Is(err, session.ErrRegion) && c.Endpoint != "":
		loaded.Region = "us-east-1" // what servers that know no regions are signed for
	case errors.Is(err, session.ErrRegion):
		return nil, fmt.Errorf("%w: %s says no region, and neither does the process; add ?region=… or set AWS_REGION", object.ErrURL, c)
	case err != nil:
		return nil, fmt.Errorf("open %s: %w", c, err)
	}
	s := &Store{config: c}
	if c.Prefix != "" {
		s.prefix = c.Prefix + "/"
	}
	s.client = s3.NewFromConfig(loaded, func(o *s3.Options) {
		// What is put carries a SHA-256, and what is got is compared with it: see Get.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		o.DisableLogOutputChecksumValidationSkipped = true
		if c.Endpoint != "" {
			o.BaseEndpoint = aws.String(c.Endpoint)
			o.UsePathStyle = true
		}
	})
	s.remover = remover(loaded, s.client, c.Remover)
	return s, nil
}

func newRetryer(maxBackoff time.Duration) aws.Retryer {
	standard := retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = maxAttempts
		o.MaxBackoff = maxBackoff
	})
	return retry.AddWithErrorCodes(standard, codeConflict, codeAborted)
}

// String implements object.Store.
func (s *Store) String() string { return s.config.String() }

// fail gives an error the form of the package.
func (s *Store) fail(op, key string, err error) error {
	return &object.Error{Op: op, Key: key, Store: s.String(), Err: err}
}

// begin checks what every call on objects checks.
func (s *Store) begin(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := object.CheckKey(key); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (s *Store) key(key string) *string { return aws.String(s.prefix + key) }
