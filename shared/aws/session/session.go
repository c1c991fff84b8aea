// Package session begins the use of an AWS service as every adapter does: region and
// credentials as all AWS tools find them, or as they are given, and a client over HTTP
// that takes the certificates of AWS_CA_BUNDLE.
package session

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
)

// Config says how to reach a service.
type Config struct {
	// Region; "" for that of the process (AWS_REGION, profile).
	Region string
	// Endpoint is the URL of a server that is not Amazon's; "" for Amazon's, or what
	// AWS_ENDPOINT_URL_<service> says.
	Endpoint string
	// Credentials are what to sign with; nil for what the SDK finds: environment,
	// shared files, roles of container and instance.
	Credentials aws.CredentialsProvider
	// AnswerTimeout bounds one request with its answer, bodies and all; 0 is
	// DefaultAnswerTimeout, Unbounded its context alone.
	AnswerTimeout time.Duration
	// Transport changes what HTTP goes over; nil: nothing.
	Transport func(*http.Transport)
	// Retryer says what is sent again; nil is Attempts(DefaultAttempts, DefaultPause).
	Retryer func() aws.Retryer
}

// What bounds a use of a service that says nothing else: no request hangs for as long as
// its caller may.
const (
	DefaultAnswerTimeout = 5 * time.Second
	DefaultAttempts      = 3
	DefaultPause         = time.Second
	// FrozenIdle is for how long a connection is kept that nothing goes over, by who may be
	// frozen between two requests: connections are cut meanwhile, and a request over one that
	// was is lost.
	FrozenIdle = 5 * time.Second
)

// Unbounded is the AnswerTimeout of what moves bodies of any size.
const Unbounded time.Duration = -1

var (
	// ErrRegion says that neither the configuration nor the process says a region.
	ErrRegion = errors.New("there is no region: give one, or set AWS_REGION")
	// ErrMFA says that the profile wants a code that nobody is asked for here.
	ErrMFA = errors.New(`the AWS profile assumes its role with MFA, and no code is asked for here: have the AWS CLI do it first, eval "$(aws configure export-credentials --profile NAME --format env)", and unset AWS_PROFILE`)
	// ErrEndpoint says that an endpoint is no URL of a server.
	ErrEndpoint = errors.New("the endpoint is not of the form https://host:port")
)

// Load returns what clients of the SDK are made with. It sends no request. The error is
// ErrRegion if all else is well; the configuration is whole but for the region then.
func Load(ctx context.Context, c Config) (aws.Config, error) {
	if err := CheckEndpoint(c.Endpoint); err != nil {
		return aws.Config{}, err
	}
	if c.AnswerTimeout == 0 {
		c.AnswerTimeout = DefaultAnswerTimeout
	}
	if c.Retryer == nil {
		c.Retryer = Attempts(DefaultAttempts, DefaultPause)
	}
	// A client of another type would not take the certificates of AWS_CA_BUNDLE.
	client := awshttp.NewBuildableClient().WithTimeout(max(0, c.AnswerTimeout))
	if c.Transport != nil {
		client = client.WithTransportOptions(c.Transport)
	}
	options := []func(*config.LoadOptions) error{config.WithHTTPClient(client), config.WithRetryer(c.Retryer), config.WithAPIOptions(APIOptions())}
	if c.Region != "" {
		options = append(options, config.WithRegion(c.Region))
	}
	if c.Credentials != nil {
		options = append(options, config.WithCredentialsProvider(c.Credentials))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	var asks config.AssumeRoleTokenProviderNotSetError
	if errors.As(err, &asks) {
		return aws.Config{}, ErrMFA
	}
	if err != nil {
		return aws.Config{}, fmt.Errorf("load the AWS configuration: %w", err)
	}
	if loaded.Region == "" {
		return loaded, ErrRegion
	}
	return loaded, nil
}

// CheckEndpoint says what is wrong with an endpoint; "" is Amazon's.
func CheckEndpoint(endpoint string) error {
	if endpoint == "" {
		return nil
	}
	e, err := url.Parse(endpoint)
	if err != nil || (e.Scheme != "http" && e.Scheme != "https") || e.Host == "" || e.User != nil || e.RawQuery != "" || e.Fragment != "" {
		return ErrEndpoint // which repeats no secret
	}
	return nil
}

// Base is what the BaseEndpoint of a client's options is to be, which the SDK has found
// in the environment or not at all: an endpoint that is given goes before that.
func (c Config) Base(found *string) *string {
	if c.Endpoint != "" {
		return aws.String(c.Endpoint)
	}
	return found
}

// Attempts is a Retryer of so many attempts, with at most the pause between two.
func Attempts(n int, pause time.Duration) func() aws.Retryer {
	return func() aws.Retryer {
		return retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts = n
			o.MaxBackoff = pause
		})
	}
}

// Rest waits between half of the pause and all of it, so that callers do not meet again.
func Rest(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause/2 + rand.N(pause/2+1))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Temporary says whether the same request may be answered another time: it was throttled,
// the service has failed, or there was no answer. It says nothing of whether the request
// was carried out.
func Temporary(err error) bool {
	if Throttled(err) {
		return true
	}
	var answer *awshttp.ResponseError
	if errors.As(err, &answer) && answer.HTTPStatusCode() != 0 {
		return answer.HTTPStatusCode() >= http.StatusInternalServerError
	}
	return retry.RetryableConnectionError{}.IsErrorRetryable(err) == aws.TrueTernary
}

// Throttled says that a request was refused for there being too many, and not carried out.
func Throttled(err error) bool {
	return retry.RetryableErrorCode{Codes: retry.DefaultThrottleErrorCodes}.IsErrorRetryable(err) == aws.TrueTernary
}
