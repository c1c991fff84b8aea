package s3site_test

import (
	"io"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"originchain/shared/aws/s3object/s3test"
	"originchain/shared/aws/s3site"
	"originchain/shared/aws/session"
)

func TestMain(m *testing.M) { s3test.Main(m) }

// A file is replaced, and read as what it is.
func TestPut(t *testing.T) {
	b := s3test.NewBucket(t, false)
	bucket := b.Name
	t.Setenv("AWS_ENDPOINT_URL_S3", b.Endpoint)
	cfg, err := session.Load(t.Context(), session.Config{})
	if err != nil {
		t.Fatal(err)
	}
	site := s3site.New(cfg, bucket, true)
	for _, body := range []string{"one", "two"} {
		f := s3site.File{Name: "index.html", ContentType: "text/html; charset=utf-8", CacheControl: "public, max-age=30", Body: []byte(body)}
		if err := site.Put(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		got, err := b.Client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: &f.Name})
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(got.Body)
		if err != nil || string(b) != body || *got.ContentType != f.ContentType || got.CacheControl == nil || *got.CacheControl != f.CacheControl {
			t.Errorf("%q, %+v, %v", b, got, err)
		}
	}
	for _, f := range []s3site.File{
		{Name: "../x", ContentType: "a", CacheControl: "b"}, {Name: "x", CacheControl: "b"}, {Name: "x", ContentType: "a"},
		{Name: "x", ContentType: "a", CacheControl: "b", Body: []byte(strings.Repeat("x", s3site.MaxBytes+1))},
	} {
		if err := site.Put(t.Context(), f); err == nil {
			t.Errorf("%q was put", f.Name)
		}
	}
	if err := s3site.New(cfg, "no-such-bucket-here", true).Put(t.Context(), s3site.File{Name: "x", ContentType: "a", CacheControl: "b"}); err == nil || !strings.Contains(err.Error(), "NoSuchBucket") {
		t.Errorf("%v", err)
	}
}
