package s3object

import (
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"

	"originchain/shared/aws/s3object/s3test"
	"originchain/shared/objecttest"
)

// left counts the versions and the deletion marks of each key of a bucket.
func left(t *testing.T, b s3test.Bucket) map[string][2]int {
	t.Helper()
	got := make(map[string][2]int)
	pages := s3.NewListObjectVersionsPaginator(b.Client, &s3.ListObjectVersionsInput{Bucket: &b.Name})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range page.Versions {
			n := got[aws.ToString(v.Key)]
			n[0]++
			got[aws.ToString(v.Key)] = n
		}
		for _, m := range page.DeleteMarkers {
			n := got[aws.ToString(m.Key)]
			n[1]++
			got[aws.ToString(m.Key)] = n
		}
	}
	return got
}

func TestVersions(t *testing.T) {
	b := s3test.NewBucket(t, true)
	s := open(t, b.URL("p"))
	for _, key := range []string{"a", "a-b", "a0", "c/d"} {
		objecttest.Put(t, s, key, []byte(key))
	}
	// Others may overwrite and delete; Erase takes all of it.
	for i := range 3 {
		_, err := b.Client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &b.Name, Key: aws.String("p/a"), Metadata: map[string]string{"i": fmt.Sprint(i)}})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Delete(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Delete(t.Context(), "c/d", "a0"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a-b"}, objecttest.Keys(t, s, "")); diff != "" {
		t.Fatal(diff)
	}
	before := left(t, b)
	if before["p/a"][0] != 4 || before["p/a"][1] == 0 || before["p/c/d"] != [2]int{1, 1} {
		t.Fatalf("deletions keep no versions: %v", before)
	}
	for range 2 {
		if err := s.Erase(t.Context(), "a", "c/d", "never"); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string][2]int{"p/a-b": before["p/a-b"], "p/a0": before["p/a0"]}, left(t, b)); diff != "" {
			t.Fatal(diff)
		}
	}
	if err := s.Erase(t.Context(), "a0", "a-b"); err != nil {
		t.Fatal(err)
	}
	if got := left(t, b); len(got) != 0 {
		t.Fatal(got)
	}
	// Nothing stands in the way of the key any more.
	objecttest.Put(t, s, "a", []byte("again"))
}

// TestEraseVersions: what S3 keeps of objects that are gone, and of uploads that came to
// nothing, goes; objects stay, and what is outside of the prefix.
func TestEraseVersions(t *testing.T) {
	b := s3test.NewBucket(t, true)
	s := open(t, b.URL("p"))
	many := make([]string, 0, 700)
	for i := range cap(many) { // versions and marks of more than one page of 1000
		many = append(many, fmt.Sprintf("x/%04d", i))
		objecttest.Put(t, s, many[i], []byte("gone"))
	}
	for _, key := range []string{"x/stays", "x/was", "y/other", "y/gone"} {
		objecttest.Put(t, s, key, []byte(key))
	}
	if err := s.Delete(t.Context(), append(many, "y/gone", "x/was")...); err != nil {
		t.Fatal(err)
	}
	// The gateway takes a mark for an object where a put has a condition; S3 does not.
	if _, err := b.Client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &b.Name, Key: aws.String("p/x/was")}); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"p/x/parts", "p/y/parts"} {
		if _, err := b.Client.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &b.Name, Key: aws.String(key)}); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string][2]int{"p/x/stays": {1, 0}, "p/x/was": {1, 0}}
	for key, n := range left(t, b) {
		if key == "p/y/other" || key == "p/y/gone" {
			want[key] = n
		}
	}
	n, err := s.EraseVersions(t.Context(), "x/")
	if err != nil || n != 2*len(many)+2+1 {
		t.Errorf("erased %d: %v", n, err)
	}
	if diff := cmp.Diff(want, left(t, b)); diff != "" {
		t.Fatal(diff)
	}
	uploads, err := b.Client.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &b.Name})
	if err != nil || len(uploads.Uploads) != 1 || aws.ToString(uploads.Uploads[0].Key) != "p/y/parts" {
		t.Errorf("uploads that are left: %+v, %v", uploads, err)
	}
	if diff := cmp.Diff([]string{"x/stays", "x/was"}, objecttest.Keys(t, s, "x/")); diff != "" {
		t.Fatal(diff)
	}
	if n, err := s.EraseVersions(t.Context(), ""); err != nil || n != 3 {
		t.Errorf("erased %d of all: %v", n, err)
	}
}
