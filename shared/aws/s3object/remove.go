package s3object

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"golang.org/x/sync/errgroup"

	"originchain/shared/object"
)

const (
	// deletedAtOnce is how many objects one request may delete.
	deletedAtOnce = 1000
	// listedAtOnce bounds the lists of versions that are asked for at the same time.
	listedAtOnce = 8
)

// Delete implements object.Store.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	err := s.begin(ctx, keys...)
	for chunk := range slices.Chunk(keys, deletedAtOnce) {
		if err != nil {
			break
		}
		var ids []types.ObjectIdentifier
		for _, key := range chunk {
			ids = append(ids, types.ObjectIdentifier{Key: s.key(key)})
		}
		err = s.delete(ctx, ids)
	}
	if err != nil {
		return s.fail("delete", object.Several(keys), err)
	}
	return nil
}

// Erase implements object.Store: it removes the objects, their versions and the
// marks that deletions have left. A version under a lock of the bucket stays, and is
// an error.
func (s *Store) Erase(ctx context.Context, keys ...string) error {
	err := s.begin(ctx, keys...)
	for chunk := range slices.Chunk(keys, deletedAtOnce) {
		if err == nil {
			err = s.erase(ctx, chunk)
		}
	}
	if err != nil {
		return s.fail("erase", object.Several(keys), err)
	}
	return nil
}

func (s *Store) erase(ctx context.Context, keys []string) error {
	var mu sync.Mutex
	var found []types.ObjectIdentifier
	g, listing := errgroup.WithContext(ctx)
	g.SetLimit(listedAtOnce)
	for _, key := range keys {
		g.Go(func() error {
			versions, err := s.versions(listing, key)
			mu.Lock()
			defer mu.Unlock()
			found = append(found, versions...)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for chunk := range slices.Chunk(found, deletedAtOnce) {
		if err := s.delete(ctx, chunk); err != nil {
			return err
		}
	}
	return nil
}

// versions lists the versions and deletion marks of one key.
func (s *Store) versions(ctx context.Context, key string) (found []types.ObjectIdentifier, err error) {
	want := *s.key(key)
	in := &s3.ListObjectVersionsInput{Bucket: &s.config.Bucket, Prefix: &want}
	for {
		out, err := s.remover.ListObjectVersions(ctx, in)
		if err != nil {
			return nil, s.kind(err)
		}
		for _, v := range out.Versions {
			if aws.ToString(v.Key) == want {
				found = append(found, types.ObjectIdentifier{Key: v.Key, VersionId: v.VersionId})
			}
		}
		for _, m := range out.DeleteMarkers {
			if aws.ToString(m.Key) == want {
				found = append(found, types.ObjectIdentifier{Key: m.Key, VersionId: m.VersionId})
			}
		}
		// What else begins with the key comes after it.
		if !aws.ToBool(out.IsTruncated) || aws.ToString(out.NextKeyMarker) > want {
			return found, nil
		}
		in.KeyMarker, in.VersionIdMarker = out.NextKeyMarker, out.NextVersionIdMarker
	}
}

func (s *Store) delete(ctx context.Context, ids []types.ObjectIdentifier) error {
	out, err := s.remover.DeleteObjects(ctx, &s3.DeleteObjectsInput{
		Bucket: &s.config.Bucket, Delete: &types.Delete{Objects: ids, Quiet: aws.Bool(true)},
	})
	if err != nil {
		return s.kind(err)
	}
	var failed []error
	for _, e := range out.Errors {
		err := error(&smithy.GenericAPIError{Code: aws.ToString(e.Code), Message: aws.ToString(e.Message)})
		err = s.kind(err)
		if !errors.Is(err, object.ErrNotFound) {
			failed = append(failed, fmt.Errorf("%s: %w", strings.TrimPrefix(aws.ToString(e.Key), s.prefix), err))
		}
	}
	if len(failed) > 1 {
		return fmt.Errorf("%w, and %d more", failed[0], len(failed)-1)
	}
	return errors.Join(failed...)
}
