package s3object

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"originchain/shared/object"
)

// TestCredentialsThatRanOutAreNamed also where S3 answers a HEAD, which has no body that
// would say why: it is the first that a node asks.
func TestCredentialsThatRanOutAreNamed(t *testing.T) {
	s, p, _ := through(t, false)
	p.answer.set(func(_ string, w http.ResponseWriter) bool {
		refuse(w, http.StatusBadRequest, "ExpiredToken")
		return true
	})
	_, region := s.Region(t.Context())
	_, now := s.Now(t.Context())
	_, stat := s.Stat(t.Context(), "a")
	for what, err := range map[string]error{"region": region, "now": now, "stat": stat, "the bucket": s.haveBucket(t.Context())} {
		if !errors.Is(err, object.ErrDenied) || !strings.Contains(err.Error(), "renew") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
