package s3object

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"originchain/shared/object"
)

// TestTheTimeIsTheServers, whoever asks for it; what has no date tells no time.
func TestTheTimeIsTheServers(t *testing.T) {
	want := time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC)
	for name, c := range map[string]struct {
		status int
		date   string
		err    error
	}{
		"who may ask":     {http.StatusOK, want.Format(http.TimeFormat), nil},
		"who may not":     {http.StatusForbidden, want.Format(http.TimeFormat), nil},
		"no such bucket":  {http.StatusNotFound, want.Format(http.TimeFormat), ErrNoBucket},
		"no date":         {http.StatusOK, "yesterday", errAny},
		"not its own day": {http.StatusTeapot, want.Format(http.TimeFormat), errAny},
	} {
		t.Run(name, func(t *testing.T) {
			s, p, _ := through(t, false)
			p.answer.set(func(_ string, w http.ResponseWriter) bool {
				w.Header().Set("Date", c.date)
				w.WriteHeader(c.status)
				return true
			})
			got, err := s.Now(t.Context())
			var typed *object.Error
			switch {
			case c.err == nil && (err != nil || !got.Equal(want)):
				t.Errorf("it is %s: %v", got, err)
			case c.err != nil && !errors.As(err, &typed), errors.Is(c.err, ErrNoBucket) && !errors.Is(err, ErrNoBucket):
				t.Errorf("got %s, %v", got, err)
			}
		})
	}
}

var errAny = errors.New("any error")
