package differential

import (
	"flag"
	"fmt"
	"testing"
)

var (
	seedFlag  = flag.Uint64("seed", 1, "first seed")
	seedsFlag = flag.Int("n", 6, "number of seeds")
)

const (
	roundsPerSeed   = 4
	writesPerRound  = 45
	queriesPerRound = 60
	// leastStatements is what a plain run must have compared.
	leastStatements = 2000
)

// TestDifferential compares answers and refusals with SQLite's.
func TestDifferential(t *testing.T) {
	statements, refused, rows := 0, 0, 0
	for seed := *seedFlag; seed < *seedFlag+uint64(*seedsFlag); seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			p := newPair(t, seed)
			p.create(randomTable(p.rng, "t0", ""))
			p.create(randomTable(p.rng, "t1", "t0"))
			p.create(randomTable(p.rng, "t2", "t0"))
			for range roundsPerSeed {
				for range writesPerRound {
					p.write(p.change())
				}
				p.index()
				p.transact()
				p.check()
				for range queriesPerRound {
					p.query()
				}
			}
			statements, refused, rows = statements+p.statements, refused+p.refused, rows+p.rows
		})
	}
	t.Logf("%d statements, %d refused by both, %d rows compared", statements, refused, rows)
	if per := leastStatements / 6; statements < per**seedsFlag || refused == 0 || rows < statements {
		t.Errorf("too little was compared: %d statements, %d refused, %d rows", statements, refused, rows)
	}
}
