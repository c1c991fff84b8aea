package s3object

import (
	"context"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// EraseVersions implements object.Store. A version under a lock of the bucket stays, and
// is an error.
func (s *Store) EraseVersions(ctx context.Context, prefix string) (n int, err error) {
	if n, err = s.eraseOld(ctx, prefix); err == nil {
		var uploads int
		uploads, err = s.abortUploads(ctx, prefix)
		n += uploads
	}
	if err != nil {
		return n, s.fail("erase versions of", prefix, err)
	}
	return n, nil
}

// eraseOld removes versions that are not the newest, and the marks of deletions. A mark
// goes after all versions that it hides, which may be on the following page: without it
// the newest of them would be an object again.
func (s *Store) eraseOld(ctx context.Context, prefix string) (n int, err error) {
	in := &s3.ListObjectVersionsInput{Bucket: &s.config.Bucket, Prefix: s.key(prefix)}
	for {
		out, err := s.remover.ListObjectVersions(ctx, in)
		if err != nil {
			return n, s.kind(err)
		}
		// Where the page ends among the versions of a key, that one comes first on the
		// next page again: what a list goes on behind must not be a version that is gone.
		cut := ""
		if aws.ToBool(out.IsTruncated) {
			cut = aws.ToString(out.NextKeyMarker)
		}
		old, marks := outdated(out, cut)
		for _, list := range [][]types.ObjectIdentifier{old, marks} {
			for chunk := range slices.Chunk(list, deletedAtOnce) {
				if err := s.delete(ctx, chunk); err != nil {
					return n, err
				}
				n += len(chunk)
			}
		}
		if cut == "" {
			return n, nil
		}
		if whole := lastBelow(out, cut); whole != "" {
			in.KeyMarker, in.VersionIdMarker = &whole, nil
		} else if len(old) == 0 {
			in.KeyMarker, in.VersionIdMarker = out.NextKeyMarker, out.NextVersionIdMarker
		}
	}
}

// outdated are the versions and marks of a page that are not the newest of their keys,
// and the marks that are, of keys all of whose versions are on it.
func outdated(out *s3.ListObjectVersionsOutput, cut string) (old, marks []types.ObjectIdentifier) {
	for _, v := range out.Versions {
		if !aws.ToBool(v.IsLatest) {
			old = append(old, types.ObjectIdentifier{Key: v.Key, VersionId: v.VersionId})
		}
	}
	for _, m := range out.DeleteMarkers {
		id := types.ObjectIdentifier{Key: m.Key, VersionId: m.VersionId}
		if !aws.ToBool(m.IsLatest) {
			old = append(old, id)
		} else if aws.ToString(m.Key) != cut {
			marks = append(marks, id)
		}
	}
	return old, marks
}

// lastBelow is the last key of a page that is below another; "" if there is none.
func lastBelow(out *s3.ListObjectVersionsOutput, cut string) (last string) {
	for _, v := range out.Versions {
		if k := aws.ToString(v.Key); k < cut {
			last = max(last, k)
		}
	}
	for _, m := range out.DeleteMarkers {
		if k := aws.ToString(m.Key); k < cut {
			last = max(last, k)
		}
	}
	return last
}

// abortUploads gives back the parts of uploads that were begun and not ended.
func (s *Store) abortUploads(ctx context.Context, prefix string) (n int, err error) {
	in := &s3.ListMultipartUploadsInput{Bucket: &s.config.Bucket, Prefix: s.key(prefix)}
	for {
		out, err := s.remover.ListMultipartUploads(ctx, in)
		if err != nil {
			return n, s.kind(err)
		}
		for _, u := range out.Uploads {
			_, err := s.remover.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &s.config.Bucket, Key: u.Key, UploadId: u.UploadId})
			if err != nil && code(err) != codeNoUpload {
				return n, s.kind(err)
			}
			n++
		}
		if !aws.ToBool(out.IsTruncated) {
			return n, nil
		}
		in.KeyMarker, in.UploadIdMarker = out.NextKeyMarker, out.NextUploadIdMarker
	}
}
