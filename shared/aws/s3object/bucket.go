package s3object

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// regionHeader is where S3 says which region a bucket is in, also to who asked in
// another one, or may not ask.
const regionHeader = "X-Amz-Bucket-Region"

// bucket is what is known of the bucket.
type bucket struct{ there atomic.Bool }

// haveBucket returns ErrNoBucket if the bucket is not there. It asks until it was,
// once.
func (s *Store) haveBucket(ctx context.Context) error {
	if s.bucket.there.Load() {
		return nil
	}
	_, err := s.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.config.Bucket})
	switch {
	case err == nil:
		s.bucket.there.Store(true)
	case status(err) == http.StatusNotFound:
		return s.noBucket(err)
	case status(err) != http.StatusForbidden: // who may not ask has to do without
		return s.kind(err)
	}
	return nil
}

// Resides returns the region that the bytes of the bucket are in; "" where the server
// is not Amazon's, and what it calls a region is no place.
func (s *Store) Resides(ctx context.Context) (string, error) {
	if !amazons(s.config.Endpoint) {
		return "", nil
	}
	return s.Region(ctx)
}

// amazons reports an endpoint that is one of Amazon's, as none given is.
func amazons(endpoint string) bool {
	u, err := url.Parse(endpoint)
	return endpoint == "" || err == nil && strings.Contains(u.Hostname()+".", ".amazonaws.com.")
}

// Region returns the region that the bucket is in.
func (s *Store) Region(ctx context.Context) (string, error) {
	head, err := s.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.config.Bucket})
	if err == nil && aws.ToString(head.BucketRegion) != "" {
		return *head.BucketRegion, nil
	}
	if _, header := answer(err); header.Get(regionHeader) != "" {
		return header.Get(regionHeader), nil
	}
	if status(err) == http.StatusNotFound {
		return "", s.fail("region of", s.config.Bucket, s.noBucket(err))
	} else if err != nil {
		return "", s.fail("region of", s.config.Bucket, s.kind(err))
	}
	// A server that does not say it there.
	location, err := s.client.GetBucketLocation(ctx, &s3.GetBucketLocationInput{Bucket: &s.config.Bucket})
	if err != nil {
		return "", s.fail("region of", s.config.Bucket, fmt.Errorf("ask for it: %w", s.kind(err)))
	}
	switch region := string(location.LocationConstraint); region {
	case "":
		return "us-east-1", nil
	case "EU":
		return "eu-west-1", nil
	default:
		return region, nil
	}
}

func transport(t *http.Transport) {
	t.ResponseHeaderTimeout = answerTimeout
	t.MaxIdleConnsPerHost = partsAtOnce * 4
}
