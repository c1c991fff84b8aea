// Package ddblease keeps the lease record of an instance in a DynamoDB table: one
// item, replaced by conditional updates, read with strong consistency.
//
// The table's only key is the string "lease"; its other attributes are the version
// that conditions name, the encoded record, and what a person looks for in the console.
package ddblease

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"originchain/shared/lease"
)

// Attributes of the item; KeyAttribute is the key of the table.
const (
	KeyAttribute     = "lease"
	versionAttribute = "version"
	recordAttribute  = "record"
	epochAttribute   = "epoch"
	holderAttribute  = "holder"
)

// answerTimeout bounds one request. A renewal that takes longer is no good: the
// holder has fenced itself by then.
const answerTimeout = 3 * time.Second

// ErrURL is in the chain of errors about the URL of a store.
var ErrURL = errors.New("not the URL of a lease in DynamoDB")

// Config says which item of which table.
type Config struct {
	Table string
	// Key is the value of the table's key: the lease's name.
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
		return Config{}, fmt.Errorf("%w: it is not of the form dynamodb://table/lease?region=…", ErrURL)
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
		return fmt.Errorf("%w: %q is no name of a lease; give dynamodb://%s/<instance>", ErrURL, c.Key, c.Table)
	}
	if c.Endpoint != "" {
		e, err := url.Parse(c.Endpoint)
		if err != nil || (e.Scheme != "http" && e.Scheme != "https") || e.Host == "" || e.User != nil || e.RawQuery != "" || e.Fragment != "" {
			return fmt.Errorf("%w: the endpoint is not of the form https://host:port", ErrURL)
		}
	}
	return nil
}

// Store is a lease.Store. It needs dynamodb:GetItem and dynamodb:UpdateItem.
type Store struct {
	config Config
	client *dynamodb.Client
}

var _ lease.Store = (*Store)(nil)

// New returns the store. It sends no request.
func New(ctx context.Context, c Config) (*Store, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	options := []func(*config.LoadOptions) error{
		// A client of another type would not take the certificates of AWS_CA_BUNDLE.
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(answerTimeout)),
	}
	if c.Region != "" {
		options = append(options, config.WithRegion(c.Region))
	}
	if c.Credentials != nil {
		options = append(options, config.WithCredentialsProvider(c.Credentials))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("load the AWS configuration for %s: %w", c, err)
	}
	if loaded.Region == "" {
		return nil, fmt.Errorf("%w: %s says no region, and neither does the process; add ?region=… or set AWS_REGION", ErrURL, c)
	}
	return &Store{config: c, client: dynamodb.NewFromConfig(loaded, func(o *dynamodb.Options) {
		// Who holds a lease asks again by itself, and no later than it has to; a write
		// that is sent twice by the SDK could conflict with itself.
		o.Retryer = retry.AddWithMaxAttempts(retry.NewStandard(), 1)
		if c.Endpoint != "" {
			o.BaseEndpoint = aws.String(c.Endpoint)
		}
	})}, nil
}

// String is the URL of the lease.
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

// String implements fmt.Stringer.
func (s *Store) String() string { return s.config.String() }

func (s *Store) key() map[string]types.AttributeValue {
	return map[string]types.AttributeValue{KeyAttribute: &types.AttributeValueMemberS{Value: s.config.Key}}
}

// Load implements lease.Store.
func (s *Store) Load(ctx context.Context) (lease.Record, bool, error) {
	out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{TableName: &s.config.Table, Key: s.key(), ConsistentRead: aws.Bool(true)})
	if err != nil {
		return lease.Record{}, false, fmt.Errorf("load the lease record from %s: %w", s, err)
	}
	if len(out.Item) == 0 {
		return lease.Record{}, false, nil
	}
	text, ok := out.Item[recordAttribute].(*types.AttributeValueMemberS)
	if !ok {
		return lease.Record{}, false, fmt.Errorf("load the lease record from %s: the item has no text in its attribute %q; it is no lease of this product", s, recordAttribute)
	}
	r, err := lease.Decode([]byte(text.Value))
	if err != nil {
		return lease.Record{}, false, fmt.Errorf("load the lease record from %s: %w", s, err)
	}
	if n, ok := out.Item[versionAttribute].(*types.AttributeValueMemberN); !ok || n.Value != strconv.FormatUint(r.Version, 10) {
		return lease.Record{}, false, fmt.Errorf("load the lease record from %s: its attribute %q is not the record's %d: somebody changed the item by hand; put the two in agreement", s, versionAttribute, r.Version)
	}
	return r, true, nil
}

// CompareAndSet implements lease.Store.
func (s *Store) CompareAndSet(ctx context.Context, expect uint64, next lease.Record) (lease.Record, error) {
	if err := ctx.Err(); err != nil {
		return lease.Record{}, err
	}
	next, err := lease.Successor(expect, next)
	if err != nil {
		return lease.Record{}, err
	}
	text, err := next.Encode()
	if err != nil {
		return lease.Record{}, err
	}
	_, err = s.client.UpdateItem(ctx, s.update(expect, next, string(text)))
	var refused *types.ConditionalCheckFailedException
	switch {
	case err == nil:
		return next, nil
	case errors.As(err, &refused):
		return lease.Record{}, s.conflict(ctx, expect)
	case notWritten(err):
		return lease.Record{}, fmt.Errorf("write the lease record to %s: %w", s, err)
	}
	return lease.Record{}, &lease.OutcomeUnknownError{Err: fmt.Errorf("write the lease record to %s: %w", s, err)}
}

func (s *Store) update(expect uint64, next lease.Record, text string) *dynamodb.UpdateItemInput {
	number := func(n uint64) types.AttributeValue {
		return &types.AttributeValueMemberN{Value: strconv.FormatUint(n, 10)}
	}
	condition := "#version = :expect"
	values := map[string]types.AttributeValue{
		":next": number(next.Version), ":record": &types.AttributeValueMemberS{Value: text},
		":epoch": number(uint64(next.Epoch)), ":holder": &types.AttributeValueMemberS{Value: next.Holder},
	}
	if expect == 0 {
		condition = "attribute_not_exists(#version)"
	} else {
		values[":expect"] = number(expect)
	}
	return &dynamodb.UpdateItemInput{
		TableName: &s.config.Table, Key: s.key(), ConditionExpression: &condition,
		UpdateExpression: aws.String("SET #version = :next, #record = :record, #epoch = :epoch, #holder = :holder"),
		ExpressionAttributeNames: map[string]string{
			"#version": versionAttribute, "#record": recordAttribute, "#epoch": epochAttribute, "#holder": holderAttribute,
		},
		ExpressionAttributeValues: values,
	}
}

// conflict names the record that stands there. That it is read after the refusal is
// no matter: versions only grow.
func (s *Store) conflict(ctx context.Context, expect uint64) error {
	found, exists, err := s.Load(ctx)
	if err != nil {
		return fmt.Errorf("the lease record is not at version %d any more; and it cannot be read: %w", expect, err)
	}
	return &lease.ConflictError{Expected: expect, Found: found, Exists: exists}
}

// notWritten says that DynamoDB answered, and refused the request as such: nothing
// was written, and nothing will be. An answer of 5xx, or none, says neither.
func notWritten(err error) bool {
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
