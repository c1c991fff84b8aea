// Package s3site keeps the files of a static site in a bucket of Amazon S3.
package s3site

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// MaxBytes bounds a file.
const MaxBytes = 4 << 20

var names = regexp.MustCompile(`^[a-z0-9][a-z0-9._/-]{0,127}$`)

// File is what is kept under a name.
type File struct {
	Name, ContentType, CacheControl string
	Body                            []byte
}

// Site is a bucket.
type Site struct {
	client *s3.Client
	bucket string
}

// New makes a Site. It sends nothing. pathStyle asks with the bucket in the path, as
// servers that are not Amazon's want it.
func New(cfg aws.Config, bucket string, pathStyle bool) *Site {
	return &Site{s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = pathStyle }), bucket}
}

// Put replaces a file as one step: whoever reads has the one before or this one.
func (s *Site) Put(ctx context.Context, f File) error {
	switch {
	case !names.MatchString(f.Name):
		return fmt.Errorf("%q is no name of a file: give up to 128 small letters, digits, dots, dashes and slashes", f.Name)
	case len(f.Body) > MaxBytes:
		return fmt.Errorf("%s has %d bytes, at most %d", f.Name, len(f.Body), MaxBytes)
	case f.ContentType == "" || f.CacheControl == "":
		return errors.New("a file has a content type, and says for how long it may be kept")
	}
	_, err := s.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &s.bucket, Key: &f.Name, Body: bytes.NewReader(f.Body), ContentType: &f.ContentType, CacheControl: &f.CacheControl,
	})
	if err != nil {
		return fmt.Errorf("put %s into the bucket %s: %w", f.Name, s.bucket, err)
	}
	return nil
}
