package notice

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"time"
)

// The headers of a webhook.
const (
	HeaderDelivery  = "X-Oc-Delivery"
	HeaderTimestamp = "X-Oc-Timestamp"
	HeaderSignature = "X-Oc-Signature"
)

// Tolerance is how old a signature may be, and how far ahead, for a receiver.
const Tolerance = 5 * time.Minute

// MinSecretBytes is how long a secret must be.
const MinSecretBytes = 16

// Signature is the value of HeaderSignature: HMAC-SHA256 under the secret over the
// timestamp as sent, a dot, and the body.
func Signature(secret []byte, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(timestamp))
	mac.Write([]byte{'.'})
	mac.Write(body)
	return "v1=" + hex.EncodeToString(mac.Sum(nil))
}

// The reasons for which Verify refuses.
var (
	ErrSignature = errors.New("the signature is not that of this body and timestamp")
	ErrStale     = errors.New("the signature is too old, or of the future")
)

// Verify says whether a request's body is from whoever has the secret, and new. It takes
// the same time for every wrong signature. A receiver also remembers HeaderDelivery for
// as long as it must not act twice.
func Verify(secret []byte, h http.Header, body []byte, now time.Time) error {
	stamp := h.Get(HeaderTimestamp)
	if len(secret) == 0 || !hmac.Equal([]byte(h.Get(HeaderSignature)), []byte(Signature(secret, stamp, body))) {
		return ErrSignature
	}
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return ErrSignature
	}
	if age := now.Sub(time.Unix(seconds, 0)); age > Tolerance || age < -Tolerance {
		return ErrStale
	}
	return nil
}
