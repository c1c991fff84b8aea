package plane

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"originchain/shared/failover"
)

// A failover that somebody has begun and not finished is finished, whoever the guard would
// have chosen: a command that was killed must not keep the instance without a writer.
func TestTheGuardFinishesWhatWasBegun(t *testing.T) {
	begun := fmt.Errorf("promote: %w", &failover.OtherRunError{Run: "R", To: "c", Step: "fence"})
	away := errors.New("away")
	for _, c := range []struct {
		name    string
		answers map[string]error
		asked   []string
		want    error
	}{
		{"nothing was begun", map[string]error{}, []string{"b"}, nil},
		{"it fails", map[string]error{"b": away}, []string{"b"}, away},
		{"another one was begun", map[string]error{"b": begun}, []string{"b", "c"}, nil},
		{"and fails", map[string]error{"b": begun, "c": away}, []string{"b", "c"}, away},
		{"they refuse one another", map[string]error{"b": begun, "c": begun}, []string{"b", "c"}, begun},
	} {
		var asked []string
		err := replace("b", func(to string) error { asked = append(asked, to); return c.answers[to] })
		if d := cmp.Diff(c.asked, asked); d != "" || !errors.Is(err, c.want) {
			t.Errorf("%s: %v %s", c.name, err, d)
		}
	}
}
