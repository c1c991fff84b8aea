// Package ddbtable is what the stores in DynamoDB have in common: the URL that names a
// value of a table's key, a client that sends each write once, and whether a write that
// failed can have been made.
package ddbtable

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/smithy-go"

	"originchain/shared/aws/session"
)

// ErrURL is in the chain of errors about the URL of a store.
var ErrURL = errors.New("not the URL of a key in a DynamoDB table")

// Config says which value of the key of which table.
type Config struct {
	Table string
	// Key is the value of the table's (partition) key: the name of a lease or a registry.
	Key string
	// Region of the table; "" for that of the process.
	Region string
	// Endpoint is the URL of a server that is not Amazon's; "" for Amazon's.
	Endpoint string
	// Credentials are what to sign with; nil for what the SDK finds.
	Credentials aws.CredentialsProvider
}

// names are those that DynamoDB takes for tables.
var names = regexp.MustCompile(`^[A-Za-z0-9_.-]{3,255}$`)

// Parse reads dynamodb://table/key?region=…&endpoint=…
func Parse(u *url.URL) (Config, error) {
	query, err := url.ParseQuery(u.RawQuery)
	c := Config{Table: u.Host, Key: strings.TrimPrefix(u.Path, "/"), Region: query.Get("region"), Endpoint: query.Get("endpoint")}
	switch {
	case u.User != nil:
		return Config{}, fmt.Errorf("%w: it has a user in it; give credentials as the AWS SDK takes them", ErrURL)
	case u.Scheme != "dynamodb" || u.Opaque != "" || u.Fragment != "" || err != nil:
		return Config{}, fmt.Errorf("%w: it is not of the form dynamodb://table/name?region=…", ErrURL)
	}
	for name, values := range query {
		if name != "region" && name != "endpoint" || len(values) != 1 {
			return Config{}, fmt.Errorf("%w: it has the parameter %q; region and endpoint are known, once each", ErrURL, name)
		}
	}
	return c, c.validate()
}

func (c Config) validate() error {
	switch {
	case !names.MatchString(c.Table):
		return fmt.Errorf("%w: %q is no name of a table", ErrURL, c.Table)
	case c.Key == "" || len(c.Key) > 255 || strings.ContainsFunc(c.Key, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' }):
		return fmt.Errorf("%w: %q is no name of what is there; give dynamodb://%s/<instance>", ErrURL, c.Key, c.Table)
	}
	if err := session.CheckEndpoint(c.Endpoint); err != nil {
		return fmt.Errorf("%w: %w", ErrURL, err)
	}
	return nil
}

// String is the URL.
func (c Config) String() string {
	u := url.URL{Scheme: "dynamodb", Host: c.Table, Path: "/" + c.Key}
	query := url.Values{}
	if c.Region != "" {
		query.Set("region", c.Region)
	}
	if c.Endpoint != "" {
		query.Set("endpoint", c.Endpoint)
	}
	u.RawQuery = query.Encode()
	return u.String()
}

// Open returns the client for c, whose requests are answered within a time or have failed.
// It sends none.
func Open(ctx context.Context, c Config, within time.Duration) (*dynamodb.Client, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	// Each request is sent once, but for Reads. A caller asks again by itself, and no later than it has to;
	// a write that is sent twice by the SDK could conflict with itself.
	s := session.Config{Region: c.Region, Endpoint: c.Endpoint, Credentials: c.Credentials, AnswerTimeout: within, Retryer: session.Attempts(1, time.Second),
		Transport: func(t *http.Transport) { t.IdleConnTimeout = session.FrozenIdle }}
	loaded, err := session.Load(ctx, s)
	switch {
	case errors.Is(err, session.ErrRegion):
		return nil, fmt.Errorf("%w: %s says no region, and neither does the process; add ?region=… or set AWS_REGION", ErrURL, c)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", c, err)
	}
	return dynamodb.NewFromConfig(loaded, func(o *dynamodb.Options) { o.BaseEndpoint = s.Base(o.BaseEndpoint) }), nil
}

// readAttempts is how often a read is sent, readPause the longest pause between two.
const (
	readAttempts = 2
	readPause    = 100 * time.Millisecond
)

// Reads has a request sent anew that has changed nothing: the first one after a function was
// frozen may go over a connection that is cut.
func Reads(o *dynamodb.Options) { o.Retryer = session.Attempts(readAttempts, readPause)() }

// NotWritten says that DynamoDB answered, and refused the request as such, or that none
// was sent: nothing was written, and nothing will be. An answer of 5xx, or none, says
// neither.
func NotWritten(err error) bool {
	var sent *smithy.OperationError
	if !errors.As(err, &sent) {
		return true
	}
	var answer *awshttp.ResponseError
	if errors.As(err, &answer) {
		status := answer.HTTPStatusCode()
		return status >= http.StatusBadRequest && status < http.StatusInternalServerError
	}
	return false
}
