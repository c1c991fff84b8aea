// Package awsenv is how a function on AWS begins: its environment, checked in one pass that
// lists every fault, its log, its stores, and the loop that is given calls.
package awsenv

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/aws/s3object"
	"originchain/shared/instance"
	"originchain/shared/lease"
	"originchain/shared/lease/leaseopen"
	"originchain/shared/notice"
	"originchain/shared/object"
	"originchain/shared/registry"
	"originchain/shared/registry/registryopen"
)

// The variables of the environment.
const (
	// Instance is the short name of the instance.
	Instance = "OC_INSTANCE"
	// Instances are the short names of all instances of the region, with commas in between.
	Instances = "OC_INSTANCES"
	// Leases, Registry and ControlRegistry are URLs, as Archive is.
	Leases          = "OC_LEASES"
	Registry        = "OC_REGISTRY"
	ControlRegistry = "OC_CONTROL_REGISTRY"
	Archive         = "OC_ARCHIVE"
	// ZoneID is the id of the hosted zone, Record the writer's name in it.
	ZoneID = "OC_ZONE_ID"
	Record = "OC_RECORD"
	// DocumentPrefix is that of the SSM documents' names.
	DocumentPrefix = "OC_DOCUMENT_PREFIX"
	// AdminTokenSecret is the ARN of the nodes' admin token in Secrets Manager.
	AdminTokenSecret = "OC_ADMIN_TOKEN_SECRET" //nolint:gosec // G101: the name of a variable
	// CA are the certificates, in PEM, that nodes are known by over HTTPS, in place of the
	// system's own.
	CA = "OC_CA"
	// MailFrom is the sender of e-mail, StatusBucket the bucket of the status page.
	MailFrom     = "OC_MAIL_FROM"
	StatusBucket = "OC_STATUS_BUCKET"
	// ScratchBytes bounds what a verification has on disk.
	ScratchBytes = "OC_SCRATCH_BYTES"
)

// Env is the environment of a function.
type Env struct {
	values map[string]string
	// Scratch is ScratchBytes as a number.
	Scratch int64
}

// Get is the value of a variable, "" where there is none.
func (e *Env) Get(name string) string { return e.values[name] }

// patterns are what values look like that nothing else checks.
func patterns() map[string]*regexp.Regexp {
	name := strings.Trim(instance.NameForm, "^$")
	return map[string]*regexp.Regexp{
		Instance:         regexp.MustCompile(instance.NameForm),
		Instances:        regexp.MustCompile("^" + name + "(," + name + ")*$"),
		ZoneID:           regexp.MustCompile(`^[A-Z0-9]{1,32}$`),
		Record:           regexp.MustCompile(`^([a-z0-9_]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}\.?$`),
		DocumentPrefix:   regexp.MustCompile(`^[A-Za-z0-9_.-]{3,100}$`),
		AdminTokenSecret: regexp.MustCompile(`^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/_+=.@-]+$`),
		StatusBucket:     regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`),
	}
}

// Read takes the variables that a function needs, and those that it may have, from the
// environment. The error lists every fault, and repeats no value.
func Read(getenv func(string) string, needs, may []string) (*Env, error) {
	e := &Env{values: make(map[string]string)}
	var faults []error
	look := patterns()
	for _, name := range slices.Concat(needs, may) {
		v := getenv(name)
		if v == "" {
			if slices.Contains(needs, name) {
				faults = append(faults, fmt.Errorf("%s is not set", name))
			}
			continue
		}
		e.values[name] = v
		if err := check(name, v, look[name]); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", name, err))
		}
	}
	if v := e.Get(ScratchBytes); v != "" {
		e.Scratch, _ = strconv.ParseInt(v, 10, 64) // checked above
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("the environment has %d faults: %w", len(faults), errors.Join(faults...))
	}
	return e, nil
}

const minScratchBytes = 64 << 20

func check(name, v string, look *regexp.Regexp) error {
	switch name {
	case Leases:
		return leaseopen.Check(v)
	case Registry, ControlRegistry:
		if u, err := url.Parse(v); err != nil || u.Scheme != "file" && u.Scheme != "dynamodb" {
			return registryopen.ErrURL
		}
	case Archive:
		if u, err := url.Parse(v); err != nil || u.Scheme != "file" && u.Scheme != "s3" {
			return object.ErrURL
		}
	case CA:
		if !x509.NewCertPool().AppendCertsFromPEM([]byte(v)) {
			return errors.New("it has no certificate in PEM")
		}
	case MailFrom:
		return notice.CheckAddress(v)
	case ScratchBytes:
		if n, err := strconv.ParseInt(v, 10, 64); err != nil || n < minScratchBytes {
			return fmt.Errorf("it is a number of bytes of at least %d", minScratchBytes)
		}
	}
	if look != nil && !look.MatchString(v) {
		return errors.New("it is not of the form " + look.String())
	}
	return nil
}

// Lease opens the record of who writes.
func (e *Env) Lease(ctx context.Context) (lease.Store, error) {
	return leaseopen.Open(ctx, vfs.Default, e.Get(Leases))
}

// Documents opens the registry that a variable names.
func (e *Env) Documents(ctx context.Context, name string) (registry.Store, error) {
	s, err := registryopen.Open(ctx, vfs.Default, e.Get(name))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

// Objects opens the archive.
func (e *Env) Objects(ctx context.Context) (object.Store, error) {
	return object.Open(ctx, e.Get(Archive), map[string]object.Opener{"s3": s3object.Open})
}
