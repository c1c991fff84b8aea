package plane

import (
	"context"
	"math"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/oklog/ulid/v2"
	"github.com/sirupsen/logrus"

	"originchain/lambdas/documents"
	"originchain/lambdas/local/control"
	"originchain/lambdas/pitrverify"
	"originchain/shared/object"
	"originchain/shared/restore"
	"originchain/shared/schedule"
	"originchain/shared/telemetry"
)

const (
	// verifyAgain is when a verification that failed is tried again, verifySettle when the
	// first of an instance is made, verifyLimit how long one may take at least.
	verifyAgain  = time.Hour
	verifySettle = 10 * time.Minute
	verifyLimit  = 24 * time.Hour
)

// Verification says how recovery points are verified.
type Verification struct {
	Every time.Duration
	// Streaming reads the checkpoint where it is instead of restoring it.
	Streaming bool
}

// newVerifier makes what verifies the instance's archive.
func (p *Plane) newVerifier(metrics *telemetry.Metrics) (*pitrverify.Verifier, error) {
	instance, err := ulid.ParseStrict(p.in.ID)
	if err != nil {
		return nil, err
	}
	store, req := object.NewFolder(p.dir.Archive()), restore.Request{Instance: instance, Latest: true}
	scratch := filepath.Join(string(p.dir), "scratch", "verify")
	verify := pitrverify.Full(store, req, vfs.Default, scratch)
	if p.o.Verify.Streaming {
		verify = pitrverify.Streaming(store, req, vfs.Default, scratch, restore.DefaultScratchBytes)
	}
	began := time.Now()
	return pitrverify.New(pitrverify.Deps{
		Documents: documents.Of(p.registry), Conflict: documents.Conflict, Verify: verify,
		Now: time.Now, Clock: func() time.Duration { return time.Since(began) }, Metrics: metrics,
	}), nil
}

// verifyJob is the schedule's job. The record says when the first run is due, so that one
// who starts the control plane often does not put it off.
func (p *Plane) verifyJob(r pitrverify.Record, v *pitrverify.Verifier) schedule.Job {
	every := p.o.Verify.Every
	first := min(every, verifySettle)
	if age, ok := v.Age(); ok && r.Green != nil {
		first = max(first, every-age)
	}
	if r.Last != nil && !r.Last.Green {
		first = min(every, verifySettle)
	}
	return schedule.Job{Name: "verify a recovery point", Every: every, First: first, Again: min(every, verifyAgain), Limit: max(every, verifyLimit),
		Run: func(ctx context.Context) error {
			run, err := v.Handle(ctx)
			if err == nil {
				p.log.WithFields(logrus.Fields{"lsn": run.LSN, "epoch": run.Epoch, "seconds": run.Ended.Sub(run.Begun).Seconds()}).Info("a recovery point was verified in full")
			}
			return err
		}}
}

// verifiedAge is the age for the alarm: infinite where it is not known.
func verifiedAge(v *pitrverify.Verifier) float64 {
	if age, ok := v.Age(); ok {
		return age.Seconds()
	}
	return math.Inf(1)
}

// verification is what status says of it.
func (p *Plane) verification(ctx context.Context) (*control.Verification, error) {
	r, err := p.verifier.Load(ctx)
	if err != nil {
		return nil, err
	}
	out := &control.Verification{EverySeconds: p.o.Verify.Every.Seconds(), Verified: r.Green}
	if age, ok := p.verifier.Age(); ok {
		seconds := age.Seconds()
		out.AgeSeconds = &seconds
	}
	if l := r.Last; l != nil {
		out.Last = &control.VerificationRun{Begun: l.Begun, Ended: l.Ended, Green: l.Green, LSN: l.LSN, Epoch: l.Epoch, Faults: l.Faults, Error: l.Error}
	}
	return out, nil
}
