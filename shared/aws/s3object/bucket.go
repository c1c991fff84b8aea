package s3object

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	smithyhttp "github.com/aws/smithy-go/transport/http"
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
		return s.headKind(ctx, err)
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
		return "", s.fail("region of", s.config.Bucket, s.headKind(ctx, err))
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

// Now implements object.Store: it is the date of an answer, and who may not ask for the
// bucket is answered with one too.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	now, err := s.now(ctx)
	if err != nil {
		return now, s.fail("now", "", err)
	}
	return now, nil
}

func (s *Store) now(ctx context.Context) (now time.Time, err error) {
	out, err := s.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.config.Bucket})
	code, header := answer(err)
	switch {
	case err == nil:
		raw, _ := middleware.GetRawResponse(out.ResultMetadata).(*smithyhttp.Response)
		if raw == nil {
			return now, errors.New("the SDK keeps no answer to read the date of")
		}
		header = raw.Header
	case code == http.StatusNotFound:
		return now, s.noBucket(err)
	case code != http.StatusForbidden:
		return now, s.headKind(ctx, err)
	}
	if now, err = http.ParseTime(header.Get("Date")); err != nil {
		err = fmt.Errorf("its answer has no date: %w", err)
	}
	return now, err
}

func transport(t *http.Transport) {
	t.ResponseHeaderTimeout = answerTimeout
	t.MaxIdleConnsPerHost = partsAtOnce * 4
}
