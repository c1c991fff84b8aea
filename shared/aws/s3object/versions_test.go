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
