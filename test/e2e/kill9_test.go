package e2e

import (
	"testing"
	"time"

	"originchain/scripts/kill9/rounds"
)

const (
	killRounds      = 50
	killRoundsShort = 5 // under -short
	killSeed        = 20261123
)

// kill -9 under load, again and again: package rounds says what must hold.
func TestKillNine(t *testing.T) {
	t.Parallel()
	n := killRounds
	if testing.Short() {
		n = killRoundsShort
	}
	report, err := rounds.Run(t.Context(), rounds.Config{
		Binary: server, Dir: t.TempDir(), Rounds: n, Clients: 16, Seed: killSeed,
		MinLife: 10 * time.Millisecond, MaxLife: 150 * time.Millisecond,
	})
	if err != nil {
		t.Fatalf("%v\nreplay with: go run ./scripts/kill9 --rounds %d --clients 16 --min-life 10ms --max-life 150ms --seed %d", err, n, killSeed)
	}
	t.Logf("%+v", report)
	if report.Acked < n || report.Unknown == 0 {
		t.Errorf("the rounds proved little: %+v", report)
	}
}
