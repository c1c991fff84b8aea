package drill

import (
	"fmt"
	"strings"
)

// Text is the report for a person.
func (r Report) Text() string {
	return fmt.Sprintf(`%s: %s
  epoch                    %d, then %d
  fault to first ack       %.2f s
  longest pause in acks    %.2f s
  old writer in sync again %.2f s after that ack
  writes acknowledged      %d, of which %d are lost%s
  refused, not written     %d%s
  outcome unknown          %d%s`, r.Fault, r.Verdict, r.EpochBefore, r.EpochAfter, r.FirstAck, r.Pause, r.Rejoined,
		r.Acked, len(r.Lost), list(r.Lost), r.Refused(), phantomText(r.Phantoms), r.Unknown, besideText(r.Beside))
}

// Refused is how many answers said that nothing was written.
func (r Report) Refused() int { return sum(r.Failed) }

// besideText is the line of a client on the old writer's side.
func besideText(b *Beside) string {
	if b == nil {
		return ""
	}
	return fmt.Sprintf("\n  at the old writer itself  %d acknowledged, %d refused, %d unknown", b.Acked, sum(b.Failed), b.Unknown)
}

// shownLost bounds how many lost writes are shown; the report has all.
const shownLost = 10

func list(ids []string) string {
	if len(ids) == 0 {
		return ""
	}
	return ": " + strings.Join(ids[:min(len(ids), shownLost)], ", ")
}

// phantomText is about rows that are there, of which an answer said that they are not.
func phantomText(ids []string) string {
	if len(ids) == 0 {
		return ""
	}
	return fmt.Sprintf(", and %d are there all the same%s", len(ids), list(ids))
}

func sum(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}
