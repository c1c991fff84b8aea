package s3object

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"originchain/shared/object"
)

// Get implements object.Store. Who reads a whole object reads what was put, or gets
// ErrContent instead of the end; a range is as good as the connection's checks.
func (s *Store) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	r, err := s.get(ctx, key, off, n)
	if err != nil {
		return nil, s.fail("get", key, err)
	}
	return r, nil
}

func (s *Store) get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if err := s.begin(ctx, key); err != nil {
		return nil, err
	}
	// S3 knows no range of no bytes, nor any of what this refuses.
	if n == 0 || off < 0 || n > math.MaxInt64-off {
		return s.getNothing(ctx, key, off, n)
	}
	in := &s3.GetObjectInput{Bucket: &s.config.Bucket, Key: s.key(key)}
	switch {
	case n > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", off, off+n-1))
	case off > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", off))
	}
	out, err := s.client.GetObject(ctx, in)
	if code(err) == codeRange {
		return s.getNothing(ctx, key, off, n)
	} else if err != nil {
		return nil, s.kind(err)
	}
	r, err := s.reader(out, off, n)
	if err != nil {
		return nil, errors.Join(err, out.Body.Close())
	}
	return r, nil
}

// getNothing answers for ranges that S3 does not: they are empty or wrong.
func (s *Store) getNothing(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	size, err := s.head(ctx, key)
	if err == nil {
		n, err = object.Range(off, n, size)
	}
	if err == nil && n != 0 {
		err = fmt.Errorf("%w: S3 has refused %d bytes from %d on, of %d", object.ErrRange, n, off, size)
	}
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(nil)), nil
}

// reader checks what the answer says that it has, and then that it has it.
func (s *Store) reader(out *s3.GetObjectOutput, off, n int64) (io.ReadCloser, error) {
	size := aws.ToInt64(out.ContentLength)
	if out.ContentRange != nil {
		var err error
		if size, err = total(*out.ContentRange); err != nil {
			return nil, err
		}
	}
	n, err := object.Range(off, n, size)
	if err != nil {
		return nil, err
	}
	if out.ContentLength == nil || *out.ContentLength != n {
		return nil, fmt.Errorf("%w: S3 answers with %d bytes, not %d", object.ErrContent, aws.ToInt64(out.ContentLength), n)
	}
	var want *[sha256.Size]byte
	if sum, err := hex.DecodeString(out.Metadata[sumMetadata]); err == nil && len(sum) == sha256.Size && n == size {
		want = (*[sha256.Size]byte)(sum)
	}
	return object.Exactly(out.Body, n, want), nil
}

// total returns the size of an object out of a Content-Range such as
// "bytes 0-9/100".
func total(contentRange string) (int64, error) {
	_, size, _ := strings.Cut(contentRange, "/")
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("S3 answers with the range %q", contentRange)
	}
	return n, nil
}

// Stat implements object.Store.
func (s *Store) Stat(ctx context.Context, key string) (object.Info, error) {
	err := s.begin(ctx, key)
	var size int64
	if err == nil {
		size, err = s.head(ctx, key)
	}
	if err != nil {
		return object.Info{}, s.fail("stat", key, err)
	}
	return object.Info{Key: key, Size: size}, nil
}

// head returns the size of an object.
func (s *Store) head(ctx context.Context, key string) (int64, error) {
	out, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.config.Bucket, Key: s.key(key)})
	if err == nil {
		return aws.ToInt64(out.ContentLength), nil
	}
	err = s.headKind(ctx, err)
	if errors.Is(err, object.ErrNotFound) {
		// The answer has no body that would say whether it is the bucket.
		if bucketErr := s.haveBucket(ctx); bucketErr != nil {
			return 0, bucketErr
		}
	}
	return 0, err
}

// List implements object.Store.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) ([]object.Info, error) {
	list, err := s.list(ctx, prefix, after, limit)
	if err != nil {
		return nil, s.fail("list", prefix, err)
	}
	return list, nil
}

func (s *Store) list(ctx context.Context, prefix, after string, limit int) ([]object.Info, error) {
	if err := object.CheckLimit(limit); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if prefix != printable(prefix) {
		return nil, nil // no key begins like that
	}
	in := &s3.ListObjectsV2Input{Bucket: &s.config.Bucket, Prefix: aws.String(s.prefix + prefix)}
	if start := printable(after); start != "" {
		in.StartAfter = aws.String(s.prefix + start)
	}
	var found []object.Info
	for {
		in.MaxKeys = aws.Int32(int32(limit - len(found)))
		out, err := s.client.ListObjectsV2(ctx, in)
		if err != nil {
			return nil, s.kind(err)
		}
		found = s.appendListed(found, out.Contents, after)
		if len(found) == limit || !aws.ToBool(out.IsTruncated) {
			return found, nil
		}
		in.ContinuationToken = out.NextContinuationToken
	}
}

func (s *Store) appendListed(found []object.Info, contents []types.Object, after string) []object.Info {
	for _, o := range contents {
		key, ours := strings.CutPrefix(aws.ToString(o.Key), s.prefix)
		if ours && key > after && object.CheckKey(key) == nil {
			found = append(found, object.Info{Key: key, Size: aws.ToInt64(o.Size)})
		}
	}
	return found
}

// printable returns what of a string a key can begin with, as far as characters and
// length go.
func printable(text string) string {
	text = text[:min(len(text), object.MaxKey)]
	if i := strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
		return text[:i]
	}
	return text
}
