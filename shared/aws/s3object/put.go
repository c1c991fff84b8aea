package s3object

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"originchain/shared/object"
)

const (
	// partBytes is the size of the parts of an object that has more, all but the
	// last. S3 takes 5 MiB or more.
	partBytes = 8 << 20
	// partsAtOnce bounds the parts of one Put in memory.
	partsAtOnce = 4
	// maxParts is S3's limit, and so maxObjectBytes is ours.
	maxParts       = 10_000
	maxObjectBytes = maxParts * partBytes
	// maxUploads bounds how often an upload starts over because another one of the
	// same key was completed at the same time.
	maxUploads = 3
	// abortTimeout bounds the tidying after an upload that failed: a process that stops
	// waits for it.
	abortTimeout = 5 * time.Second
	// sumMetadata is the metadata with the SHA-256 of the whole object, in hex: S3's
	// own checksum of one that came in parts is one of its parts' checksums.
	sumMetadata = "sha256"
)

// Put implements object.Store.
func (s *Store) Put(ctx context.Context, key string, body object.Body) error {
	if err := s.put(ctx, key, body); err != nil {
		return s.fail("put", key, err)
	}
	return nil
}

func (s *Store) put(ctx context.Context, key string, body object.Body) error {
	if err := s.begin(ctx, key); err != nil {
		return err
	}
	if body.Size > maxObjectBytes {
		return fmt.Errorf("the object has %d bytes, at most %d", body.Size, int64(maxObjectBytes))
	}
	if body.Size <= partBytes {
		return s.putWhole(ctx, key, body)
	}
	// Most who put what is there put a large object again: do not send it first.
	// Whether it is there decides the condition; this is only to spare the way.
	if _, err := s.head(ctx, key); err == nil {
		return object.ErrExists
	}
	var err error
	for range maxUploads {
		if err = s.upload(ctx, key, body); code(err) != codeConflict && code(err) != codeAborted {
			break
		}
	}
	return err
}

func (s *Store) putWhole(ctx context.Context, key string, body object.Body) error {
	var b bytes.Buffer
	b.Grow(int(max(body.Size, 0)) + bytes.MinRead)
	if err := body.CopyTo(ctx, &b); err != nil {
		return err
	}
	_, err := s.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &s.config.Bucket, Key: s.key(key),
		Body: bytes.NewReader(b.Bytes()), ContentLength: aws.Int64(body.Size),
		IfNoneMatch:       aws.String("*"),
		ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
		ChecksumSHA256:    aws.String(base64.StdEncoding.EncodeToString(body.SHA256[:])),
		Metadata:          sumOf(body),
	})
	return s.kind(err)
}

func sumOf(body object.Body) map[string]string {
	return map[string]string{sumMetadata: hex.EncodeToString(body.SHA256[:])}
}

// upload puts an object in parts. Nothing is visible until the last request, which
// carries the condition and is sent only when the whole content is the right one.
func (s *Store) upload(ctx context.Context, key string, body object.Body) (err error) {
	created, err := s.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: &s.config.Bucket, Key: s.key(key),
		ChecksumAlgorithm: types.ChecksumAlgorithmSha256, Metadata: sumOf(body),
	})
	if err != nil {
		return s.kind(err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.abort(ctx, key, created.UploadId))
		}
	}()
	parts, err := s.sendParts(ctx, key, created.UploadId, body)
	if err != nil {
		return s.kind(err)
	}
	_, err = s.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &s.config.Bucket, Key: s.key(key), UploadId: created.UploadId,
		IfNoneMatch: aws.String("*"), MpuObjectSize: aws.Int64(body.Size),
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	})
	if code(err) == codeNoUpload {
		// A try whose answer was lost may have completed it.
		if _, headErr := s.head(ctx, key); headErr == nil {
			return object.ErrExists
		}
	}
	return s.kind(err)
}

// abort gives back what an upload has stored, also when the caller's time is up.
func (s *Store) abort(ctx context.Context, key string, id *string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	_, err := s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &s.config.Bucket, Key: s.key(key), UploadId: id})
	if err != nil && code(err) != codeNoUpload {
		// No kind: it is not what the Put failed for.
		return fmt.Errorf("abort its upload, whose parts a lifecycle rule must remove: %v", err) //nolint:errorlint // see above
	}
	return nil
}

// sendParts reads the body and sends its parts, in bounded memory.
func (s *Store) sendParts(ctx context.Context, key string, id *string, body object.Body) ([]types.CompletedPart, error) {
	g, ctx := errgroup.WithContext(ctx)
	w := &partWriter{
		ctx:   ctx,
		free:  make(chan []byte, partsAtOnce),
		parts: make([]types.CompletedPart, (body.Size+partBytes-1)/partBytes),
	}
	for range partsAtOnce {
		w.free <- nil
	}
	w.send = func(number int, part []byte) {
		g.Go(func() error {
			completed, err := s.sendPart(ctx, key, id, number, part)
			if err != nil {
				return fmt.Errorf("part %d: %w", number, err)
			}
			w.parts[number-1] = completed
			w.free <- part[:0]
			return nil
		})
	}
	err := body.CopyTo(ctx, w)
	if err == nil {
		err = w.flush()
	}
	if sendErr := g.Wait(); sendErr != nil {
		return nil, sendErr // the reading failed because of it, if it did
	}
	return w.parts, err
}

func (s *Store) sendPart(ctx context.Context, key string, id *string, number int, part []byte) (types.CompletedPart, error) {
	sum := sha256.Sum256(part)
	encoded := aws.String(base64.StdEncoding.EncodeToString(sum[:]))
	out, err := s.client.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: &s.config.Bucket, Key: s.key(key), UploadId: id,
		PartNumber: aws.Int32(int32(number)),
		Body:       bytes.NewReader(part), ContentLength: aws.Int64(int64(len(part))),
		ChecksumAlgorithm: types.ChecksumAlgorithmSha256, ChecksumSHA256: encoded,
	})
	if err != nil {
		return types.CompletedPart{}, err
	}
	return types.CompletedPart{PartNumber: aws.Int32(int32(number)), ETag: out.ETag, ChecksumSHA256: encoded}, nil
}

// partWriter cuts what is written to it into parts.
type partWriter struct {
	ctx context.Context
	// free are the buffers that no request holds; nil is one that is not made yet.
	free  chan []byte
	part  []byte // nil between two parts
	sent  int
	parts []types.CompletedPart
	send  func(number int, part []byte)
}

func (w *partWriter) Write(p []byte) (written int, err error) {
	for len(p) > 0 {
		if w.part == nil {
			select {
			case w.part = <-w.free:
			case <-w.ctx.Done():
				return written, context.Cause(w.ctx)
			}
			if w.part == nil {
				w.part = make([]byte, 0, partBytes)
			}
		}
		n := min(len(p), partBytes-len(w.part))
		w.part = append(w.part, p[:n]...)
		p, written = p[n:], written+n
		if len(w.part) == partBytes {
			if err := w.flush(); err != nil {
				return written, err
			}
		}
	}
	return written, nil
}

// flush sends what there is. A body that is longer than it says ends here.
func (w *partWriter) flush() error {
	if len(w.part) == 0 {
		return nil
	}
	if w.sent == len(w.parts) {
		return nil // one byte too many: CopyTo will say so
	}
	w.sent++
	w.send(w.sent, w.part)
	w.part = nil
	return nil
}
