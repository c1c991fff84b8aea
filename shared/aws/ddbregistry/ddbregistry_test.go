package ddbregistry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"originchain/shared/aws/ddblease/ddbtest"
	"originchain/shared/aws/ddbregistry"
	"originchain/shared/aws/session"
	"originchain/shared/registry"
	"originchain/shared/registrytest"
)

const tableName = "registry"

func table(t *testing.T, endpoint, name string) {
	t.Helper()
	ddbtest.Table(t, endpoint, name, ddbregistry.RegistryAttribute, ddbregistry.KeyAttribute)
}

func open(t *testing.T, endpoint, table, scope string) *ddbregistry.Store {
	t.Helper()
	s, err := ddbregistry.New(context.Background(), ddbregistry.Config{Table: table, Key: scope, Region: ddbtest.Region, Endpoint: endpoint, Credentials: ddbtest.Credentials()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Every registry of the contract is another one of the same table: what one has, none of
// the others sees.
func TestContract(t *testing.T) {
	endpoint := ddbtest.Start(t)
	table(t, endpoint, tableName)
	scopes := 0
	registrytest.Run(t, func(t *testing.T) func() registry.Store {
		scopes++
		scope := fmt.Sprintf("orders-%d", scopes)
		return func() registry.Store { return open(t, endpoint, tableName, scope) }
	})
}

// proxy is between the store and the emulator, and spoils what it is told to.
type proxy struct {
	*httptest.Server
	// before answers in place of the emulator, after in place of its answer; nil: no.
	before, after atomic.Pointer[http.HandlerFunc]
	queries       atomic.Int32
}

func newProxy(t *testing.T, endpoint string) *proxy {
	t.Helper()
	to, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	through := httputil.NewSingleHostReverseProxy(to)
	p := &proxy{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		if operation == "Query" {
			p.queries.Add(1)
		}
		before, after := p.before.Load(), p.after.Load()
		switch {
		case operation != "PutItem" && operation != "DeleteItem":
			through.ServeHTTP(w, r)
		case before != nil:
			(*before)(w, r)
		case after != nil:
			through.ServeHTTP(httptest.NewRecorder(), r)
			(*after)(w, r)
		default:
			through.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

func cut(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func answer(status int, kind, more string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"__type":"com.amazonaws.dynamodb.v20120810#`+kind+`","message":"x"`+more+`}`)
	}
}

// A write whose answer is lost is unknown, and sent once: loading says whether it took
// effect. One that was refused was not made. The same for a removal.
func TestOutcomes(t *testing.T) {
	endpoint := ddbtest.Start(t)
	table(t, endpoint, tableName)
	p := newProxy(t, endpoint)
	s, direct := open(t, p.URL, tableName, "orders"), open(t, endpoint, tableName, "orders")
	cases := []struct {
		name    string
		where   *atomic.Pointer[http.HandlerFunc]
		do      http.HandlerFunc
		unknown bool
		written bool
	}{
		{"cut before it arrives", &p.before, cut, true, false},
		{"an error of the server before", &p.before, answer(500, "InternalServerError", ""), true, false},
		{"throttled", &p.before, answer(400, "ThrottlingException", ""), false, false},
		{"not allowed", &p.before, answer(400, "AccessDeniedException", ""), false, false},
		{"no such table", &p.before, answer(400, "ResourceNotFoundException", ""), false, false},
		{"cut after it took effect", &p.after, cut, true, true},
		{"an error of the server after", &p.after, answer(503, "ServiceUnavailable", ""), true, true},
	}
	for i, c := range cases {
		key := fmt.Sprintf("k%d", i)
		if _, err := direct.Save(t.Context(), key, 0, []byte("one")); err != nil {
			t.Fatal(err)
		}
		for what, write := range map[string]func(version uint64) error{
			"save":   func(version uint64) error { _, err := s.Save(t.Context(), key, version, []byte("two")); return err },
			"remove": func(version uint64) error { return s.Delete(t.Context(), key, version) },
		} {
			t.Run(c.name+", "+what, func(t *testing.T) {
				was, err := direct.Load(t.Context(), key)
				if err == nil && was.Version == 0 { // removed by the other
					was, err = direct.Save(t.Context(), key, 0, []byte("one"))
				}
				if err != nil {
					t.Fatal(err)
				}
				sent := 0
				do := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { sent++; c.do(w, r) })
				c.where.Store(&do)
				err = write(was.Version)
				c.where.Store(nil)
				var unknown *registry.OutcomeUnknownError
				if err == nil || errors.As(err, &unknown) != c.unknown || c.unknown && unknown.Key != key {
					t.Errorf("%v; unknown should be %t", err, c.unknown)
				}
				if sent != 1 {
					t.Errorf("it was sent %d times", sent)
				}
				now, err := direct.Load(t.Context(), key)
				if got := now.Version != was.Version; got != c.written || err != nil {
					t.Errorf("written is %t: %v", got, err)
				}
			})
		}
	}
}

// The document that comes with a refusal is the one that stood against the write, and not
// what has been written since.
func TestTheRefusalNamesWhatStoodThere(t *testing.T) {
	endpoint := ddbtest.Start(t)
	table(t, endpoint, tableName)
	p := newProxy(t, endpoint)
	s := open(t, p.URL, tableName, "orders")
	if _, err := s.Save(t.Context(), "k", 0, []byte("one")); err != nil {
		t.Fatal(err)
	}
	refuse := answer(400, "ConditionalCheckFailedException", `,"Item":{"registry":{"S":"orders"},"key":{"S":"k"},"version":{"N":"7"},"body":{"B":"eA=="}}`)
	p.before.Store(&refuse)
	_, err := s.Save(t.Context(), "k", 1, []byte("two"))
	var c *registry.ConflictError
	if !errors.As(err, &c) || c.Expected != 1 || c.Found.Version != 7 || string(c.Found.Body) != "x" {
		t.Errorf("%v", err)
	}
}

// A list goes on over pages of 1 MiB, and ends at its limit.
func TestLongLists(t *testing.T) {
	endpoint := ddbtest.Start(t)
	table(t, endpoint, tableName)
	p := newProxy(t, endpoint)
	s := open(t, p.URL, tableName, "orders")
	body := bytes.Repeat([]byte{'x'}, registry.MaxBodyBytes)
	const large = 9
	for i := range large {
		if _, err := s.Save(t.Context(), fmt.Sprintf("large/%02d", i), 0, body); err != nil {
			t.Fatal(err)
		}
	}
	l, err := s.List(t.Context(), "large/")
	if err != nil || len(l) != large || l[large-1].Key != "large/08" || !bytes.Equal(l[large-1].Body, body) {
		t.Fatalf("%d documents, %v", len(l), err)
	}
	if n := p.queries.Load(); n < 3 {
		t.Errorf("%d MiB came in %d pages: what is tested is no page", large/4, n)
	}
	fill(t, endpoint, registry.MaxListed)
	if l, err := s.List(t.Context(), "small/"); err != nil || len(l) != registry.MaxListed {
		t.Fatalf("%d documents, %v", len(l), err)
	}
	if _, err := s.Save(t.Context(), "small/x", 0, nil); err != nil {
		t.Fatal(err)
	}
	if l, err := s.List(t.Context(), "small/"); err == nil || !strings.Contains(err.Error(), "more than 1000") {
		t.Fatalf("%d documents, %v", len(l), err)
	}
	if l, err := s.List(t.Context(), strings.Repeat("x", 2000)); err != nil || len(l) != 0 {
		t.Fatalf("%d documents, %v", len(l), err)
	}
}

// fill writes small documents, many at once.
func fill(t *testing.T, endpoint string, n int) {
	t.Helper()
	const batch = 25
	name := tableName
	client := dynamodb.New(dynamodb.Options{Region: ddbtest.Region, BaseEndpoint: &endpoint, Credentials: ddbtest.Credentials(), APIOptions: session.APIOptions()})
	for from := 0; from < n; from += batch {
		var puts []types.WriteRequest
		for i := from; i < from+batch; i++ {
			puts = append(puts, types.WriteRequest{PutRequest: &types.PutRequest{Item: map[string]types.AttributeValue{
				ddbregistry.RegistryAttribute: &types.AttributeValueMemberS{Value: "orders"}, ddbregistry.KeyAttribute: &types.AttributeValueMemberS{Value: fmt.Sprintf("small/%04d", i)},
				"version": &types.AttributeValueMemberN{Value: "1"}, "body": &types.AttributeValueMemberB{Value: []byte("x")},
			}}})
		}
		if _, err := client.BatchWriteItem(t.Context(), &dynamodb.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{name: puts}}); err != nil {
			t.Fatal(err)
		}
	}
}

// What somebody changed by hand is an error that says where, and never no document.
func TestItemsOfOthers(t *testing.T) {
	endpoint := ddbtest.Start(t)
	table(t, endpoint, tableName)
	s := open(t, endpoint, tableName, "orders")
	client := dynamodb.New(dynamodb.Options{Region: ddbtest.Region, BaseEndpoint: &endpoint, Credentials: ddbtest.Credentials(), APIOptions: session.APIOptions()})
	name := tableName
	str := func(v string) types.AttributeValue { return &types.AttributeValueMemberS{Value: v} }
	num := func(v string) types.AttributeValue { return &types.AttributeValueMemberN{Value: v} }
	body := &types.AttributeValueMemberB{Value: []byte("x")}
	for what, more := range map[string]map[string]types.AttributeValue{
		"no version":      {"body": body},
		"version 0":       {"version": num("0"), "body": body},
		"version -1":      {"version": num("-1"), "body": body},
		"a text version":  {"version": str("1"), "body": body},
		"no body":         {"version": num("1")},
		"a body of text":  {"version": num("1"), "body": str("x")},
		"a body too long": {"version": num("1"), "body": &types.AttributeValueMemberB{Value: bytes.Repeat([]byte{'x'}, registry.MaxBodyBytes+1)}},
	} {
		more[ddbregistry.RegistryAttribute], more[ddbregistry.KeyAttribute] = str("orders"), str("k")
		if _, err := client.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &name, Item: more}); err != nil {
			t.Fatal(err)
		}
		_, loaded := s.Load(t.Context(), "k")
		_, listed := s.List(t.Context(), "")
		for _, err := range []error{loaded, listed} {
			if err == nil || !strings.Contains(err.Error(), "by hand") {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
}

func TestURLs(t *testing.T) {
	u, err := url.Parse("dynamodb://registry/control?region=eu-central-1&endpoint=http://127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	c, err := ddbregistry.Parse(u)
	want := ddbregistry.Config{Table: "registry", Key: "control", Region: "eu-central-1", Endpoint: "http://127.0.0.1:1"}
	if c != want || err != nil {
		t.Errorf("%+v %v", c, err)
	}
	if u, err = url.Parse("dynamodb://registry"); err != nil {
		t.Fatal(err)
	}
	if _, err := ddbregistry.Parse(u); !errors.Is(err, ddbregistry.ErrURL) {
		t.Errorf("%v", err)
	}
}
