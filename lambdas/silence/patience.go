package silence

import (
	"slices"
	"time"

	"originchain/shared/failover"
)

// paced says when to ask again, as long as there is patience.
func (a *Answer) paced() {
	a.AgainSeconds = seconds(pause(a.Round))
	switch waits := a.Verdict == Verdict(failover.Wait); {
	case waits && a.Round >= MaxRounds:
		a.patienceEnds()
	case waits:
		a.AfterSeconds = max(a.AfterSeconds, a.AgainSeconds)
	}
}

// maxPause bounds the pause before the next round.
const maxPause = 30 * time.Second

// pause grows from round to round, so that what is waited for has minutes to come back and
// is found soon if it takes seconds.
func pause(round int) time.Duration {
	if round < 1 || round > 5 {
		return maxPause
	}
	return min(maxPause, time.Second<<(round-1))
}

// patienceEnds makes of a wait without end what a person is called for; a writer that
// answers all the time is none of that.
func (a *Answer) patienceEnds() {
	a.AfterSeconds = 0
	answers := func(r failover.Reason) bool { return r.Code == failover.WriterAnswers }
	if slices.ContainsFunc(a.Reasons, answers) {
		a.Verdict = Ignored
		return
	}
	a.Verdict = Verdict(failover.Page)
	a.because(failover.Code("no_verdict"), "after %d rounds there is no verdict", MaxRounds)
}
