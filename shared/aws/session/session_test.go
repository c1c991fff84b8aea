package session

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

func nothingSet(t *testing.T) {
	t.Helper()
	for _, v := range []string{"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE"} {
		t.Setenv(v, "")
	}
	t.Setenv("AWS_CONFIG_FILE", t.TempDir()+"/none")
}

func TestRegions(t *testing.T) {
	nothingSet(t)
	if _, err := Load(t.Context(), Config{}); !errors.Is(err, ErrRegion) {
		t.Errorf("got %v", err)
	}
	t.Setenv("AWS_REGION", "ap-south-1")
	for given, want := range map[string]string{"": "ap-south-1", "eu-central-1": "eu-central-1"} {
		if c, err := Load(t.Context(), Config{Region: given}); err != nil || c.Region != want {
			t.Errorf("%q: %q, %v", given, c.Region, err)
		}
	}
}

func TestEndpoints(t *testing.T) {
	for endpoint, well := range map[string]bool{
		"": true, "http://127.0.0.1:1": true, "https://host": true,
		"host:1": false, "ftp://host": false, "http://": false, "http://a:b@host": false, "http://host?x": false, "http://host#x": false,
	} {
		if _, err := Load(t.Context(), Config{Region: "eu-central-1", Endpoint: endpoint}); (err == nil) != well || !well && !errors.Is(err, ErrEndpoint) {
			t.Errorf("%q: %v", endpoint, err)
		}
	}
	found := aws.String("http://found")
	if (Config{}).Base(found) != found || *(Config{Endpoint: "http://given"}).Base(found) != "http://given" {
		t.Error("an endpoint that is given does not go before what is found")
	}
}

// TestCertificates: a bundle that cannot be taken is said, not passed over.
func TestCertificates(t *testing.T) {
	nothingSet(t)
	bundle := filepath.Join(t.TempDir(), "bundle.pem")
	if err := os.WriteFile(bundle, []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CA_BUNDLE", bundle)
	if _, err := Load(t.Context(), Config{Region: "eu-central-1"}); err == nil {
		t.Error("a bundle without certificates is taken")
	}
}

func TestWhatIsGivenIsUsed(t *testing.T) {
	nothingSet(t)
	changed := false
	c, err := Load(t.Context(), Config{
		Region: "eu-central-1", Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""), AnswerTimeout: time.Second,
		Transport: func(*http.Transport) { changed = true }, Retryer: Attempts(7, time.Second),
	})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := c.Credentials.Retrieve(t.Context())
	client, ok := c.HTTPClient.(*awshttp.BuildableClient)
	if err != nil || keys.AccessKeyID != "id" || !ok || client.GetTimeout() != time.Second || c.Retryer().MaxAttempts() != 7 {
		t.Errorf("%v, %v", keys, err)
	}
	if client.GetTransport(); !changed {
		t.Error("the transport was not changed")
	}
}

func TestWhatIsTemporary(t *testing.T) {
	answered := func(status int, err error) error {
		return &awshttp.ResponseError{ResponseError: &smithyhttp.ResponseError{
			Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}}, Err: err,
		}}
	}
	code := func(c string) error { return &smithy.GenericAPIError{Code: c} }
	for _, c := range []struct {
		err                  error
		temporary, throttled bool
	}{
		{answered(400, code("PriorRequestNotComplete")), true, true},
		{answered(400, code("ThrottlingException")), true, true},
		{answered(429, code("TooManyRequestsException")), true, true},
		{answered(400, code("InvalidChangeBatch")), false, false},
		{answered(500, code("InternalError")), true, false},
		{answered(503, code("ServiceUnavailable")), true, false},
		{answered(0, &smithyhttp.RequestSendError{Err: errors.New("EOF")}), true, false},
		{&smithyhttp.RequestSendError{Err: errors.New("reset")}, true, false},
		{errors.New("of ours"), false, false},
	} {
		if Temporary(c.err) != c.temporary || Throttled(c.err) != c.throttled {
			t.Errorf("%v: temporary %t, throttled %t", c.err, Temporary(c.err), Throttled(c.err))
		}
	}
}

// A profile that wants a code says what to do.
func TestAProfileWithMFA(t *testing.T) {
	nothingSet(t)
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte("[default]\nregion=eu-central-1\nrole_arn=arn:aws:iam::123456789012:role/x\nmfa_serial=arn:aws:iam::123456789012:mfa/me\nsource_profile=base\n[profile base]\naws_access_key_id=a\naws_secret_access_key=b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CONFIG_FILE", file)
	if _, err := Load(t.Context(), Config{}); !errors.Is(err, ErrMFA) {
		t.Errorf("%v", err)
	}
}
