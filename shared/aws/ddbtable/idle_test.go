package ddbtable_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"originchain/shared/aws/ddbtable"
	"originchain/shared/aws/session"
)

// answer has every request on a connection find nothing.
func answer(c net.Conn) {
	in := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		time.Sleep(time.Millisecond) // of the bubble: an answer before the request is seen as sent ends the connection
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nX-Amz-Crc32: 2745614147\r\nContent-Length: 2\r\n\r\n{}")
	}
}

// TestNoConnectionIsKeptForLong: a function that is frozen between two requests does not come
// back to one that was cut meanwhile; one that is used is kept.
func TestNoConnectionIsKeptForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		made, err := ddbtable.Open(t.Context(), ddbtable.Config{Table: "registry", Key: "control", Region: "eu-central-1", Endpoint: "http://dynamodb.example", Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, nil
		})}, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		dialled := 0
		client := dynamodb.New(made.Options(), func(o *dynamodb.Options) {
			o.HTTPClient = o.HTTPClient.(*awshttp.BuildableClient).WithTransportOptions(func(tr *http.Transport) {
				tr.DialContext = func(context.Context, string, string) (net.Conn, error) {
					dialled++
					ours, theirs := net.Pipe()
					t.Cleanup(func() { _ = theirs.Close() })
					go answer(theirs)
					return ours, nil
				}
			})
		})
		for _, c := range []struct {
			after   time.Duration
			dialled int
		}{{0, 1}, {session.FrozenIdle - time.Second, 1}, {session.FrozenIdle - time.Second, 1}, {session.FrozenIdle + time.Second, 2}} {
			time.Sleep(c.after)
			_, err := client.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: aws.String("registry"), Key: map[string]types.AttributeValue{"key": &types.AttributeValueMemberS{Value: "k"}}})
			if err != nil || dialled != c.dialled {
				t.Errorf("after %v: connection %d, want %d: %v", c.after, dialled, c.dialled, err)
			}
		}
	})
}
