package session

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// TestBodies: a body that is closed when its answer begins has ended, and not failed, for
// who looks for its end then; and each attempt sends it whole.
func TestBodies(t *testing.T) {
	c, err := Load(t.Context(), Config{
		Region: "eu-central-1", Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
		Retryer: Attempts(2, 1),
	})
	if err != nil {
		t.Fatal(err)
	}
	var sent []string
	c.HTTPClient = smithyhttp.ClientDoFunc(func(r *http.Request) (*http.Response, error) {
		body, err := io.ReadAll(r.Body)
		if err != nil || int64(len(body)) != r.ContentLength {
			t.Errorf("%d bytes of %d, %v", len(body), r.ContentLength, err)
		}
		sent = append(sent, string(body))
		if err := r.Body.Close(); err != nil {
			t.Error(err)
		}
		if n, err := io.Copy(io.Discard, r.Body); n != 0 || err != nil {
			t.Errorf("behind its end are %d bytes, %v", n, err)
		}
		status := map[bool]int{true: http.StatusInternalServerError, false: http.StatusOK}[len(sent) == 1]
		return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}")), Request: r}, nil
	})
	_, err = ssm.NewFromConfig(c).PutParameter(t.Context(), &ssm.PutParameterInput{Name: aws.String("n"), Value: aws.String("v")})
	if err != nil || len(sent) != 2 || sent[0] != sent[1] || !strings.Contains(sent[0], `"v"`) {
		t.Errorf("sent %q, %v", sent, err)
	}
}
