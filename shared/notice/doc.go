// Package notice takes a message to whoever asked for it: by e-mail, or by a webhook
// that is signed. A Sender makes one attempt; whoever calls it decides about another.
//
// Invariants:
//
//   - Every attempt of a delivery carries the same id (the header X-OC-Delivery, in an
//     e-mail References and the last line too), so that a receiver can tell a repeat after
//     an answer that was lost. A Message-ID is what the last server says that has a say in
//     it: Amazon SES puts another one into each attempt.
//   - No secret, no URL and no address of a subscriber is in an error: URLs of webhooks
//     are often secrets themselves.
//   - A webhook reaches only public addresses, and those that the operator has allowed by
//     name; what the name resolves to is checked when the connection is made, not before.
//   - Each attempt is bounded in time and in the bytes that it reads.
package notice

import (
	"errors"
	"time"
)

const (
	// AttemptTimeout bounds one attempt.
	AttemptTimeout = 15 * time.Second
	// MaxMessageBytes is how long a message may be.
	MaxMessageBytes = 256 << 10
	// maxAnswerBytes is how much of an answer is read.
	maxAnswerBytes = 64 << 10
)

// ErrRefused marks a message or a target that no retry makes acceptable.
var ErrRefused = errors.New("refused")
