// Status is the function that publishes the status page.
package main

import (
	"context"
	"math/rand/v2"
	"os"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/lambdas/awsenv"
	"originchain/lambdas/documents"
	"originchain/lambdas/status"
	"originchain/shared/aws/s3site"
	"originchain/shared/aws/session"
	"originchain/shared/incident"
)

func main() {
	awsenv.Main(awsenv.Function{Name: "status", Needs: []string{awsenv.ControlRegistry, awsenv.StatusBucket}, Open: open})
}

func open(ctx context.Context, e *awsenv.Env, _ *logrus.Logger) (awsenv.Handler, error) {
	control, err := e.Documents(ctx, awsenv.ControlRegistry)
	if err != nil {
		return nil, err
	}
	cfg, err := session.Load(ctx, session.Config{})
	if err != nil {
		return nil, err
	}
	store := incident.NewStore(documents.Of(control), incident.Fixed{}, time.Now, rand.Float64)
	bucket := s3site.New(cfg, e.Get(awsenv.StatusBucket), os.Getenv("AWS_ENDPOINT_URL_S3") != "")
	p := status.New(store, bucket, cfg.Region, time.Now)
	return awsenv.Payload(p.Handle), nil
}
