package plane

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/shared/schedule"
)

// A job that fails again and again is logged once, and again after it has succeeded.
func TestAFailureThatComesBackIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		p := &Plane{log: logrus.New()}
		p.log.SetOutput(&said)
		ctx, cancel := context.WithCancel(t.Context())
		fails, runs := []bool{true, true, false, true, true}, 0
		err := p.scheduled(ctx, schedule.Job{Name: "x", Every: time.Second, Run: func(context.Context) error {
			defer func() { runs++ }()
			switch {
			case runs == len(fails):
				cancel()
			case fails[runs]:
				return errors.New("the store is away")
			}
			return nil
		}})
		if n := strings.Count(said.String(), "the store is away"); err != nil || n != 2 {
			t.Errorf("logged %d times, want 2: %v\n%s", n, err, said.String())
		}
	})
}
