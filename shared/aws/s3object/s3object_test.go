package s3object

import (
	"testing"

	"originchain/shared/aws/s3object/s3test"
	"originchain/shared/object"
	"originchain/shared/objecttest"
)

func TestMain(m *testing.M) { s3test.Main(m) }

// open returns a store as the product opens one.
func open(t testing.TB, url string) *Store {
	t.Helper()
	s, err := object.Open(t.Context(), url, map[string]object.Opener{"s3": Open})
	if err != nil {
		t.Fatal(err)
	}
	return s.(*Store)
}

// The gateway lets a put lose against the deletion of the last object of what is a
// directory to it and not to S3: there is no objecttest.RunDirectories here.
func TestContract(t *testing.T) {
	objecttest.Run(t, func(t *testing.T) func() object.Store {
		b := s3test.NewBucket(t, false)
		return func() object.Store { return open(t, b.URL("some/prefix")) }
	})
}
