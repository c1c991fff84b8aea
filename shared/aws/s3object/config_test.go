package s3object

import (
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"

	"errors"
	"net/http"
	"strings"
	"testing"

	"originchain/shared/aws/s3object/s3test"
	"originchain/shared/object"
)

func TestURLs(t *testing.T) {
	for _, c := range []struct{ url, want string }{
		{"s3://bucket", "s3://bucket?"},
		{"s3://bucket/", "s3://bucket?"},
		{"s3://bucket/a/b/", "s3://bucket/a/b?"},
		{"s3://bucket/p?region=ap-south-1", "s3://bucket/p?region=ap-south-1"},
		{"s3://bucket?endpoint=http://127.0.0.1:9000&region=x", "s3://bucket?endpoint=http%3A%2F%2F127.0.0.1%3A9000&region=x"},
	} {
		s := open(t, c.url)
		if want := strings.TrimSuffix(c.want, "?"); s.String() != want {
			t.Errorf("%s: got %s, want %s", c.url, s, want)
		}
		if again := open(t, s.String()); again.config != s.config {
			t.Errorf("%s: opened again it is %+v", c.url, again.config)
		}
	}
	for _, url := range []string{
		"s3://", "s3:bucket", "s3:///prefix", "s3://bucket/a//b", "s3://bucket/../x", "s3://bucket/.x", "s3://bucket#secret",
		"s3://bucket?key=secret", "s3://bucket?region=a&region=secret", "s3://bucket?secret", "s3://bucket?%zzsecret",
		"s3://id:secret@bucket", "s3://bucket?endpoint=http://id:secret@host", "s3://bucket?endpoint=host:9000", "s3://bucket?endpoint=ftp://host",
		"s3://bucket?endpoint=http://host?token=secret",
	} {
		s, err := object.Open(t.Context(), url, map[string]object.Opener{"s3": Open})
		if !errors.Is(err, object.ErrURL) {
			t.Errorf("%s: %v, %v", url, s, err)
		} else if strings.Contains(err.Error(), "secret") && url != "s3://bucket?secret" {
			t.Errorf("%s: repeats the secret: %v", url, err)
		}
	}
}

func TestNoRegion(t *testing.T) {
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	t.Setenv("AWS_CONFIG_FILE", t.TempDir()+"/none")
	if _, err := New(t.Context(), Config{Bucket: "bucket"}); !errors.Is(err, object.ErrURL) || !strings.Contains(err.Error(), "AWS_REGION") {
		t.Errorf("got %v", err)
	}
}

func TestRegion(t *testing.T) {
	answers := map[string]struct {
		want   string
		answer func(op string, w http.ResponseWriter)
	}{
		"said": {"ap-south-1", func(_ string, w http.ResponseWriter) { w.Header().Set(regionHeader, "ap-south-1") }},
		"said by who redirects": {"ap-south-1", func(_ string, w http.ResponseWriter) {
			w.Header().Set(regionHeader, "ap-south-1")
			w.WriteHeader(http.StatusMovedPermanently)
		}},
		"said by who denies": {"ap-south-1", func(_ string, w http.ResponseWriter) {
			w.Header().Set(regionHeader, "ap-south-1")
			w.WriteHeader(http.StatusForbidden)
		}},
		"only as a location": {"eu-north-1", location("eu-north-1")},
		"as no location":     {"us-east-1", location("")},
		"as an old location": {"eu-west-1", location("EU")},
	}
	for name, c := range answers {
		t.Run(name, func(t *testing.T) {
			s, p, _ := through(t, false)
			p.answer.set(func(op string, w http.ResponseWriter) bool {
				c.answer(op, w)
				return true
			})
			if got, err := s.Region(t.Context()); err != nil || got != c.want {
				t.Errorf("got %q, %v, want %q", got, err, c.want)
			}
		})
	}
	s, _, _ := through(t, false)
	if got, err := s.Region(t.Context()); err != nil || got != s3test.Region {
		t.Errorf("of the gateway: %q, %v", got, err)
	}
	if got, err := s.Resides(t.Context()); err != nil || got != "" {
		t.Errorf("the gateway is in %q, %v", got, err)
	}
	for endpoint, want := range map[string]bool{
		"": true, "https://s3.eu-central-1.amazonaws.com": true, "https://s3.cn-north-1.amazonaws.com.cn": true,
		"http://127.0.0.1:9000": false, "https://amazonaws.com.example": false,
	} {
		if amazons(endpoint) != want {
			t.Errorf("%q is Amazon's: %t", endpoint, !want)
		}
	}
}

func location(region string) func(op string, w http.ResponseWriter) {
	return func(op string, w http.ResponseWriter) {
		if op == "GetBucketLocation" {
			_, _ = w.Write([]byte(`<?xml version="1.0"?><LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/">` + region + `</LocationConstraint>`))
		}
	}
}

func TestAnotherRegionIsNamed(t *testing.T) {
	s, p, _ := through(t, false)
	p.answer.set(func(_ string, w http.ResponseWriter) bool {
		w.Header().Set(regionHeader, "ap-south-1")
		refuse(w, http.StatusMovedPermanently, "PermanentRedirect")
		return true
	})
	if err := s.Put(t.Context(), "k", object.Bytes(nil)); err == nil || !strings.Contains(err.Error(), "is in ap-south-1") {
		t.Errorf("got %v", err)
	}
}

// A body takes as long as the line needs: only the wait for an answer's header is bounded.
func TestBodiesAreNotBounded(t *testing.T) {
	s, err := New(t.Context(), Config{Bucket: "b", Region: "eu-central-1"})
	if err != nil {
		t.Fatal(err)
	}
	client, ok := s.client.Options().HTTPClient.(*awshttp.BuildableClient)
	if !ok || client.GetTimeout() != 0 || client.GetTransport().ResponseHeaderTimeout != answerTimeout {
		t.Errorf("%T, %s in all", s.client.Options().HTTPClient, client.GetTimeout())
	}
}
