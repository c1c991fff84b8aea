// Package ec2machine says which EC2 instance this is, by version 2 of the metadata service:
// each question carries a token of this session, and version 1 is not asked.
package ec2machine

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"

	"originchain/shared/aws/session"
)

// answerTimeout bounds one request: the service is a hop away.
const answerTimeout = 2 * time.Second

// Machine is an EC2 instance.
type Machine struct {
	// ID is i-…; Address its first private address; Zone its availability zone.
	ID, Address, Zone, Region string
}

// Identify asks the metadata service at endpoint, "" for Amazon's, or what
// AWS_EC2_METADATA_SERVICE_ENDPOINT says.
func Identify(ctx context.Context, endpoint string) (Machine, error) {
	loaded, err := session.Load(ctx, session.Config{Region: "none", AnswerTimeout: answerTimeout})
	if err != nil {
		return Machine{}, err
	}
	client := imds.NewFromConfig(loaded, func(o *imds.Options) {
		// Without a token there is no answer: version 1 gives anybody's request one.
		o.EnableFallback = aws.FalseTernary
		if endpoint != "" {
			o.Endpoint = endpoint
		}
	})
	doc, err := client.GetInstanceIdentityDocument(ctx, nil)
	if err != nil {
		return Machine{}, fmt.Errorf("ask the metadata service which machine this is: %w", err)
	}
	m := Machine{ID: doc.InstanceID, Address: doc.PrivateIP, Zone: doc.AvailabilityZone, Region: doc.Region}
	if m.ID == "" || m.Address == "" {
		return Machine{}, fmt.Errorf("the metadata service says of this machine: id %q, address %q; both are needed", m.ID, m.Address)
	}
	return m, nil
}
