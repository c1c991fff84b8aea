// Package settings is what programs are told of an instance on AWS: where its records
// are, and what reaches its nodes. The deployment leaves it as one parameter of Systems
// Manager, for whoever is given no more than the instance's name. No secret is in it.
package settings

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"originchain/shared/aws/ddbtable"
	"originchain/shared/aws/session"
	"originchain/shared/instance"
)

const (
	// Format is that of the parameter. A higher one is refused.
	Format = 1
	// MaxBytes bounds the parameter: what a standard one holds.
	MaxBytes = 4 << 10
)

// Settings of one instance. Its JSON is stable.
type Settings struct {
	Format int `json:"format"`
	// Instance is the short name, Region where it is.
	Instance string `json:"instance"`
	Region   string `json:"region"`
	// Leases and Registry are the URLs of the instance's record of who writes and of its
	// registry, dynamodb://…
	Leases   string `json:"leases"`
	Registry string `json:"registry"`
	// Documents is what the names of its SSM documents begin with.
	Documents string `json:"documents"`
	// ZoneID is the hosted zone, and Record the writer's name in it; both are "" where the
	// instance has no name.
	ZoneID string `json:"zone_id,omitempty"`
	Record string `json:"record,omitempty"`
	// AdminSecret is the ARN of the secret with the nodes' admin token.
	AdminSecret string `json:"admin_secret"`
	// CA are the certificates, in PEM, that nodes are known by over HTTPS; "" for those of
	// the system.
	CA string `json:"ca,omitempty"`
}

// Parameter is the name of an instance's parameter.
func Parameter(name string) string { return "/originchain/" + name }

// NotFoundError says that there are no settings of an instance.
type NotFoundError struct{ Instance, Region string }

// Error implements error.
func (e *NotFoundError) Error() string {
	return fmt.Sprintf("there is no parameter %s in %s: no instance of that name is deployed there; check the name, the region and the account", Parameter(e.Instance), e.Region)
}

// Load reads the settings of an instance. It needs ssm:GetParameter.
func Load(ctx context.Context, c session.Config, name string) (Settings, error) {
	if err := instance.CheckName(name); err != nil {
		return Settings{}, err
	}
	loaded, err := session.Load(ctx, c)
	if err != nil {
		return Settings{}, fmt.Errorf("read the settings of %s: %w", name, err)
	}
	client := ssm.NewFromConfig(loaded, func(o *ssm.Options) { o.BaseEndpoint = c.Base(o.BaseEndpoint) })
	out, err := client.GetParameter(ctx, &ssm.GetParameterInput{Name: aws.String(Parameter(name))})
	var absent *types.ParameterNotFound
	switch {
	case errors.As(err, &absent):
		return Settings{}, &NotFoundError{Instance: name, Region: loaded.Region}
	case err != nil:
		return Settings{}, fmt.Errorf("read the settings of %s from the parameter %s: %w", name, Parameter(name), err)
	case out.Parameter == nil:
		return Settings{}, fmt.Errorf("read the settings of %s: the answer has no parameter", name)
	}
	s, err := Parse([]byte(aws.ToString(out.Parameter.Value)))
	if err == nil && s.Instance != name {
		err = fmt.Errorf("it is of the instance %q", s.Instance)
	}
	if err != nil {
		return Settings{}, fmt.Errorf("the parameter %s: %w; deploy the instance anew", Parameter(name), err)
	}
	return s, nil
}

// Parse reads settings, and checks all of them: the error names every fault.
func Parse(b []byte) (s Settings, err error) {
	if len(b) > MaxBytes {
		return s, fmt.Errorf("%d bytes, want at most %d", len(b), MaxBytes)
	}
	d := json.NewDecoder(strings.NewReader(string(b)))
	if err := d.Decode(&s); err != nil {
		return s, fmt.Errorf("it is not the JSON of settings: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return s, errors.New("more than one JSON value")
	}
	if s.Format > Format {
		return s, fmt.Errorf("its format is %d, and this program knows %d: use a newer one", s.Format, Format)
	}
	return s, s.Check()
}

// Check names every fault.
func (s Settings) Check() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if s.Format < 1 {
		fault("format is %d", s.Format)
	}
	if err := instance.CheckName(s.Instance); err != nil {
		fault("instance: %w", err)
	}
	for name, raw := range map[string]string{"leases": s.Leases, "registry": s.Registry} {
		if u, err := url.Parse(raw); err != nil {
			fault("%s is no URL", name)
		} else if _, err := ddbtable.Parse(u); err != nil {
			fault("%s: %w", name, err)
		}
	}
	for name, value := range map[string]string{"region": s.Region, "documents": s.Documents, "admin_secret": s.AdminSecret} {
		if value == "" {
			fault("%s is missing", name)
		}
	}
	if (s.ZoneID == "") != (s.Record == "") {
		fault("zone_id is %q and record %q: give both, or none", s.ZoneID, s.Record)
	}
	if s.CA != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(s.CA)) {
		fault("ca has no certificate in PEM")
	}
	return errors.Join(faults...)
}
