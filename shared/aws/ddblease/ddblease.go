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
	"net/url"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"originchain/shared/aws/ddbtable"
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

// ErrURL is in the chain of errors about the URL of a store.
var ErrURL = ddbtable.ErrURL

// Config says which item of which table: its Key is the lease's name.
type Config = ddbtable.Config

// Parse reads dynamodb://table/lease?region=…&endpoint=…
func Parse(u *url.URL) (Config, error) { return ddbtable.Parse(u) }

// AnswerTimeout bounds one request. It is short for the holder's sake: a renewal that nobody
// answers, the reading after it, and one more renewal end before the holder has fenced
// itself (lease.SelfFence).
const AnswerTimeout = 900 * time.Millisecond

// Store is a lease.Store. It needs dynamodb:GetItem and dynamodb:UpdateItem.
type Store struct {
	config Config
	client *dynamodb.Client
}

var _ lease.Store = (*Store)(nil)

// New returns the store. It sends no request.
func New(ctx context.Context, c Config) (*Store, error) {
	client, err := ddbtable.Open(ctx, c, AnswerTimeout)
	if err != nil {
		return nil, err
	}
	return &Store{config: c, client: client}, nil
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
	case ddbtable.NotWritten(err):
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
