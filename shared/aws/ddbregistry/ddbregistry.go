// Package ddbregistry keeps a registry in a DynamoDB table: an item for each document,
// replaced by conditional writes, read with strong consistency.
//
// The table's key is the string "registry", which names the registry, and it sorts by the
// string "key", the document's; several registries share a table and see nothing of each
// other. The other attributes are the version that conditions name, and the body.
package ddbregistry

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"originchain/shared/aws/ddbtable"
	"originchain/shared/registry"
)

// Attributes of an item; RegistryAttribute is the key of the table, and KeyAttribute what
// sorts below it.
const (
	RegistryAttribute = "registry"
	KeyAttribute      = "key"
	versionAttribute  = "version"
	bodyAttribute     = "body"
)

// ErrURL is in the chain of errors about the URL of a store.
var ErrURL = ddbtable.ErrURL

// Config says which registry of which table: its Key is the registry's name.
type Config = ddbtable.Config

// Parse reads dynamodb://table/registry?region=…&endpoint=…
func Parse(u *url.URL) (Config, error) { return ddbtable.Parse(u) }

// Store is a registry.Store. It needs dynamodb:GetItem, PutItem, DeleteItem and Query.
type Store struct {
	config Config
	client *dynamodb.Client
}

var _ registry.Store = (*Store)(nil)

// answerTimeout bounds one request.
const answerTimeout = 3 * time.Second

// New returns the store. It sends no request.
func New(ctx context.Context, c Config) (*Store, error) {
	client, err := ddbtable.Open(ctx, c, answerTimeout)
	if err != nil {
		return nil, err
	}
	return &Store{config: c, client: client}, nil
}

// String implements fmt.Stringer.
func (s *Store) String() string { return s.config.String() }

type item = map[string]types.AttributeValue

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func number(n uint64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatUint(n, 10)}
}

func (s *Store) key(key string) item {
	return item{RegistryAttribute: text(s.config.Key), KeyAttribute: text(key)}
}

// Load implements registry.Store.
func (s *Store) Load(ctx context.Context, key string) (registry.Document, error) {
	if err := before(ctx, key); err != nil {
		return registry.Document{}, err
	}
	return s.load(ctx, key)
}

// before is what every use of a document by its key begins with.
func before(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return registry.CheckKey(key)
}

func (s *Store) load(ctx context.Context, key string) (registry.Document, error) {
	out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{TableName: &s.config.Table, Key: s.key(key), ConsistentRead: aws.Bool(true)}, ddbtable.Reads)
	if err != nil {
		return registry.Document{}, fmt.Errorf("load the document %s from %s: %w", key, s, err)
	}
	if len(out.Item) == 0 {
		return registry.Document{Key: key}, nil
	}
	return s.decode(out.Item)
}

// Save implements registry.Store.
func (s *Store) Save(ctx context.Context, key string, expect uint64, body []byte) (registry.Document, error) {
	if err := before(ctx, key); err != nil {
		return registry.Document{}, err
	}
	if err := registry.CheckBody(key, body); err != nil {
		return registry.Document{}, err
	}
	next := registry.Document{Key: key, Version: expect + 1, Body: slices.Clone(body)}
	put := s.key(key)
	put[versionAttribute] = number(next.Version)
	put[bodyAttribute] = &types.AttributeValueMemberB{Value: append([]byte{}, body...)} // nil would be no value
	condition, names, values := expected(expect)
	_, err := s.client.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: &s.config.Table, Item: put, ConditionExpression: condition,
		ExpressionAttributeNames: names, ExpressionAttributeValues: values,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	if err != nil {
		return registry.Document{}, s.notSaved(ctx, key, expect, err)
	}
	return next, nil
}

// Delete implements registry.Store.
func (s *Store) Delete(ctx context.Context, key string, expect uint64) error {
	if err := before(ctx, key); err != nil {
		return err
	}
	if expect == 0 {
		// There is nothing of version 0 to delete: whatever stands there is a conflict.
		return s.conflict(ctx, key, expect, nil)
	}
	condition, names, values := expected(expect)
	_, err := s.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{
		TableName: &s.config.Table, Key: s.key(key), ConditionExpression: condition,
		ExpressionAttributeNames: names, ExpressionAttributeValues: values,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	if err != nil {
		return s.notSaved(ctx, key, expect, err)
	}
	return nil
}

// expected is the condition that a document is of a version, or is not there.
func expected(version uint64) (condition *string, names map[string]string, values item) {
	names = map[string]string{"#version": versionAttribute}
	if version == 0 {
		return aws.String("attribute_not_exists(#version)"), names, nil
	}
	return aws.String("#version = :expect"), names, item{":expect": number(version)}
}

// notSaved tells a write that was refused from one that may have been made.
func (s *Store) notSaved(ctx context.Context, key string, expect uint64, err error) error {
	var refused *types.ConditionalCheckFailedException
	switch {
	case errors.As(err, &refused):
		return s.conflict(ctx, key, expect, refused.Item)
	case ddbtable.NotWritten(err):
		return fmt.Errorf("write the document %s to %s: %w", key, s, err)
	}
	return &registry.OutcomeUnknownError{Key: key, Err: fmt.Errorf("write the document %s to %s: %w", key, s, err)}
}

// conflict names the document that stood against a write: the one that came with the
// refusal, or else, where none did, what stands there now.
func (s *Store) conflict(ctx context.Context, key string, expect uint64, found item) error {
	var d registry.Document
	var err error
	if len(found) > 0 {
		d, err = s.decode(found)
	} else {
		d, err = s.load(ctx, key)
	}
	if err != nil {
		return fmt.Errorf("the document %s is not at version %d; and it cannot be read: %w", key, expect, err)
	}
	return &registry.ConflictError{Expected: expect, Found: d}
}

// List implements registry.Store. It is no snapshot: what is written meanwhile may be in
// it or not.
func (s *Store) List(ctx context.Context, prefix string) (out []registry.Document, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(prefix) > registry.MaxKeyBytes {
		return nil, nil // longer than any key; the service would refuse it
	}
	in := &dynamodb.QueryInput{
		TableName: &s.config.Table, ConsistentRead: aws.Bool(true), Limit: aws.Int32(registry.MaxListed + 1),
		KeyConditionExpression:    aws.String("#registry = :registry"),
		ExpressionAttributeNames:  map[string]string{"#registry": RegistryAttribute},
		ExpressionAttributeValues: item{":registry": text(s.config.Key)},
	}
	if prefix != "" {
		*in.KeyConditionExpression += " AND begins_with(#key, :prefix)"
		in.ExpressionAttributeNames["#key"] = KeyAttribute
		in.ExpressionAttributeValues[":prefix"] = text(prefix)
	}
	// A page ends after 1 MiB, whatever it holds: only the last has no key to go on from.
	for pages := dynamodb.NewQueryPaginator(s.client, in); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx, ddbtable.Reads)
		if err != nil {
			return nil, fmt.Errorf("list the documents %s* of %s: %w", prefix, s, err)
		}
		if len(out)+len(page.Items) > registry.MaxListed {
			return nil, fmt.Errorf("more than %d documents of %s begin with %q; ask for fewer", registry.MaxListed, s, prefix)
		}
		for _, i := range page.Items {
			d, err := s.decode(i)
			if err != nil {
				return nil, err
			}
			out = append(out, d)
		}
	}
	return out, nil
}

// decode reads an item, which somebody may have changed by hand.
func (s *Store) decode(i item) (registry.Document, error) {
	key, _ := i[KeyAttribute].(*types.AttributeValueMemberS)
	if key == nil || registry.CheckKey(key.Value) != nil {
		return registry.Document{}, fmt.Errorf("an item of %s has no key of a document in its attribute %q; it is none of this product: remove it", s, KeyAttribute)
	}
	bad := func(attribute string) (registry.Document, error) {
		return registry.Document{}, fmt.Errorf("the document %s of %s is not whole in its attribute %q: somebody changed the item by hand; put it back as it was, or remove it", key.Value, s, attribute)
	}
	n, _ := i[versionAttribute].(*types.AttributeValueMemberN)
	if n == nil {
		return bad(versionAttribute)
	}
	version, err := strconv.ParseUint(n.Value, 10, 64)
	if err != nil || version == 0 {
		return bad(versionAttribute)
	}
	body, _ := i[bodyAttribute].(*types.AttributeValueMemberB)
	if body == nil || len(body.Value) > registry.MaxBodyBytes {
		return bad(bodyAttribute)
	}
	return registry.Document{Key: key.Value, Version: version, Body: body.Value}, nil
}
