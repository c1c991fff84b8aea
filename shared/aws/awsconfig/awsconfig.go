// Package awsconfig is the AWS SDK's configuration as the control plane's clients have it:
// region and credentials as every AWS tool finds them, and bounds on each request.
package awsconfig

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
)

const (
	maxAttempts    = 4
	maxBackoff     = 2 * time.Second
	connectTimeout = 3 * time.Second
	answerTimeout  = 10 * time.Second
)

// Load finds the configuration of this process. It sends nothing.
func Load(ctx context.Context) (aws.Config, error) {
	// A client of another type would not take the certificates of AWS_CA_BUNDLE.
	client := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.ResponseHeaderTimeout = answerTimeout
	}).WithDialerOptions(func(d *net.Dialer) { d.Timeout = connectTimeout })
	c, err := config.LoadDefaultConfig(ctx, config.WithHTTPClient(client), config.WithRetryer(func() aws.Retryer {
		return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = maxAttempts, maxBackoff })
	}))
	if err != nil {
		return c, fmt.Errorf("load the AWS configuration: %w", err)
	}
	if c.Region == "" {
		return c, errors.New("no region is known: set AWS_REGION")
	}
	return c, nil
}
