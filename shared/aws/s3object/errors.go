package s3object

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"originchain/shared/object"
)

// Codes of S3 that this package acts on.
const (
	// codeConflict: another conditional write of the key is on its way.
	codeConflict = "ConditionalRequestConflict"
	codeAborted  = "OperationAborted"
	codeTaken    = "PreconditionFailed"
	codeNoUpload = "NoSuchUpload"
	codeRange    = "InvalidRange"
)

// ErrNoBucket says that the bucket is not there, which no object can be then.
var ErrNoBucket = fmt.Errorf("%w: there is no such bucket", object.ErrNoStore)

// code returns the error code of an answer, "" where there was none.
func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// answer returns the status and the header of an answer, 0 where there was none.
func answer(err error) (status int, header http.Header) {
	var response *awshttp.ResponseError
	if errors.As(err, &response) && response.Response != nil && response.Response.Response != nil {
		return response.Response.StatusCode, response.Response.Header
	}
	return 0, nil
}

func status(err error) int {
	n, _ := answer(err)
	return n
}

// kind tells what an error of the SDK is, and what to do about it.
func (s *Store) kind(err error) error {
	if err == nil {
		return nil
	}
	c := code(err)
	if remedy := deniedRemedy(c); remedy != "" {
		return fmt.Errorf("%w (%s): %w; %s", object.ErrDenied, c, err, remedy)
	}
	switch {
	case c == "NoSuchBucket":
		return s.noBucket(err)
	case c == "NoSuchKey" || c == "NotFound":
		return fmt.Errorf("%w: %w", object.ErrNotFound, err)
	case c == codeTaken:
		return fmt.Errorf("%w: %w", object.ErrExists, err)
	case c == codeRange:
		return fmt.Errorf("%w: %w", object.ErrRange, err)
	case c == "PermanentRedirect" || c == "AuthorizationHeaderMalformed" || c == "IllegalLocationConstraintException" || status(err) == http.StatusMovedPermanently:
		return fmt.Errorf("bucket %s is in %s: %w; give that region in the URL", s.config.Bucket, regionOf(err), err)
	case c == "ObjectParentIsFile" || c == "ExistingObjectIsDirectory" || c == "DirectoryObjectContainsData":
		// Servers that keep objects in a file system.
		return fmt.Errorf("%w: %w", object.ErrKey, err)
	case status(err) == http.StatusInsufficientStorage || c == "QuotaExceeded":
		return fmt.Errorf("%w (%s): %w; make room, or raise the quota", object.ErrNoSpace, c, err)
	case status(err) == http.StatusForbidden:
		return fmt.Errorf("%w (%s): %w; %s", object.ErrDenied, c, err, deniedRemedy("AccessDenied"))
	}
	return err
}

// headKind is kind for what a HEAD was answered with: credentials that have run out are
// a bad request, and the answer has no body that would say so. A list's has.
func (s *Store) headKind(ctx context.Context, err error) error {
	if status(err) != http.StatusBadRequest {
		return s.kind(err)
	}
	_, told := s.client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &s.config.Bucket, Prefix: aws.String(s.prefix), MaxKeys: aws.Int32(1)})
	if told = s.kind(told); errors.Is(told, object.ErrDenied) {
		return told
	}
	return s.kind(err)
}

func (s *Store) noBucket(err error) error {
	return fmt.Errorf("%w as %s: %w; make it, or correct its name, region or endpoint", ErrNoBucket, s.config.Bucket, err)
}

// deniedRemedy says what to do about a code that means ErrDenied, "" for others.
func deniedRemedy(code string) string {
	switch code {
	case "AccessDenied", "Forbidden", "AllAccessDisabled", "AccountProblem":
		return "allow it in the role's policy, the bucket's, and that of its key"
	case "ExpiredToken", "TokenRefreshRequired", "RequestExpired":
		return "the credentials have run out; renew them"
	case "InvalidAccessKeyId", "InvalidToken", "InvalidClientTokenId", "XAdminUserNotFound":
		return "nobody has these credentials; check the access key and that it belongs to this server"
	case "SignatureDoesNotMatch":
		return "the secret key is not that of the access key; check both"
	case "RequestTimeTooSkewed":
		return "set the clock of this machine"
	default:
		return ""
	}
}

// regionOf returns the region that an answer says a bucket is in.
func regionOf(err error) string {
	if _, header := answer(err); header.Get(regionHeader) != "" {
		return header.Get(regionHeader)
	}
	return "another region"
}
