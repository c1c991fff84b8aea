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

func TestContract(t *testing.T) {
	for name, versioned := range map[string]bool{"without versions": false, "with versions": true} {
		t.Run(name, func(t *testing.T) {
			objecttest.Run(t, func(t *testing.T) func() object.Store {
				b := s3test.NewBucket(t, versioned)
				return func() object.Store { return open(t, b.URL("some/prefix")) }
			})
		})
	}
}
