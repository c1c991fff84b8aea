// Package route53dns is failover.DNS in a hosted zone of Amazon Route 53: A records of
// one address, of simple routing.
package route53dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"

	"originchain/shared/aws/session"
	"originchain/shared/failover"
)

const (
	// answerTimeout bounds one request; attempts and maxBackoff what the SDK sends again by
	// itself, of what was not answered.
	answerTimeout = 10 * time.Second
	attempts      = 3
	maxBackoff    = 2 * time.Second
	// retryPause is the longest pause before a request that Route 53 was too busy for, and
	// pollPause that between two questions for the state of a change: it takes five
	// requests a second of an account.
	retryPause = 2 * time.Second
	pollPause  = 2 * time.Second
	// maxWait bounds Point where its context does not: a change takes a minute, at most.
	maxWait = 5 * time.Minute
	// maxTTL is the largest that RFC 2181 lets a record have.
	maxTTL = (1<<31 - 1) * time.Second
)

// Config says which zone.
type Config struct {
	// Zone is the id of the hosted zone.
	Zone string
	session.Config

	// pause is set by tests, which have no time: in place of retryPause and pollPause.
	pause time.Duration
}

// DNS is a failover.DNS. It needs route53:ListResourceRecordSets and
// route53:ChangeResourceRecordSets of the zone, and route53:GetChange.
type DNS struct {
	config Config
	client *route53.Client

	mu sync.Mutex
	// inSync is the record that this DNS has last seen all servers have.
	inSync record
}

var _ failover.DNS = (*DNS)(nil)

// record is one name with one address.
type record struct {
	name, address string
	ttl           int64
}

func (r record) String() string { return fmt.Sprintf("%s A %s, TTL %d s", r.name, r.address, r.ttl) }

var zones = regexp.MustCompile(`^[A-Z0-9]{1,32}$`)

// New returns the records of a zone. It sends no request.
func New(ctx context.Context, c Config) (*DNS, error) {
	if !zones.MatchString(c.Zone) {
		return nil, fmt.Errorf("%q is no id of a hosted zone, as Z0123456789ABCDEFGHIJ", c.Zone)
	}
	c.AnswerTimeout, c.Retryer = answerTimeout, session.Attempts(attempts, maxBackoff)
	if c.pause > 0 {
		c.Retryer = session.Attempts(attempts, c.pause)
	}
	loaded, err := session.Load(ctx, c.Config)
	if err != nil {
		return nil, fmt.Errorf("reach Route 53 for the hosted zone %s: %w", c.Zone, err)
	}
	return &DNS{config: c, client: route53.NewFromConfig(loaded, func(o *route53.Options) { o.BaseEndpoint = c.Base(o.BaseEndpoint) })}, nil
}

// RoutedError says that a name has records that are chosen among, by weight, health or
// place. They are a person's work, and stay as they are.
type RoutedError struct{ Name, Identifier, Zone string }

// Error implements error.
func (e *RoutedError) Error() string {
	return fmt.Sprintf("%s has a record %q in the hosted zone %s that is one of several to choose from, and is not replaced: take these away, or name another record", e.Name, e.Identifier, e.Zone)
}

// Point implements failover.DNS.
//
// A record that is right may have become so a moment ago, by a run that was killed while
// its change was on the way, and only a change says when all servers have it. So it is
// written once more as it is, which no client notices, unless this DNS has itself seen the
// servers have it: then nothing is sent.
func (d *DNS) Point(ctx context.Context, name, address string, ttl time.Duration) error {
	want, err := newRecord(name, address, ttl)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	right, err := d.isRight(ctx, want)
	if err != nil {
		return fmt.Errorf("read what %s is in the hosted zone %s: %w; nothing was changed", want.name, d.config.Zone, err)
	}
	if right && d.seen(want) {
		return nil
	}
	d.see(record{}) // until the change is in sync, nothing is
	change, err := d.change(ctx, want)
	if err != nil {
		return fmt.Errorf("make %s in the hosted zone %s: %w", want, d.config.Zone, err)
	}
	if err := d.wait(ctx, change); err != nil {
		return fmt.Errorf("%s was accepted for the hosted zone %s, as the change %s, and not every server is known to have it: %w", want, d.config.Zone, change, err)
	}
	d.see(want)
	return nil
}

func (d *DNS) seen(r record) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.inSync == r
}

func (d *DNS) see(r record) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inSync = r
}

// hostNames are names of hosts, of letters, digits and hyphens: Route 53 gives them back
// as they are, without escapes.
var hostNames = regexp.MustCompile(`^(_?[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.){2,}$`)

// maxNameBytes is the longest name as text, with its final dot.
const maxNameBytes = 254

func newRecord(name, address string, ttl time.Duration) (record, error) {
	canonical := strings.ToLower(strings.TrimSuffix(name, ".")) + "."
	if !hostNames.MatchString(canonical) || len(canonical) > maxNameBytes {
		return record{}, fmt.Errorf("point %q: it is not the name of a host; nothing was changed", name)
	}
	ip, err := netip.ParseAddr(address)
	switch {
	case err != nil:
		return record{}, fmt.Errorf("point %s: %w; nothing was changed", canonical, err)
	case !ip.Is4():
		return record{}, fmt.Errorf("point %s: %s is no IPv4 address; nothing was changed", canonical, ip)
	case ttl < 0 || ttl > maxTTL || ttl%time.Second != 0:
		return record{}, fmt.Errorf("point %s: a TTL of %s, want whole seconds up to %s; nothing was changed", canonical, ttl, maxTTL)
	}
	return record{canonical, ip.String(), int64(ttl / time.Second)}, nil
}

// isRight says whether the zone has the record already, on its servers or on the way.
func (d *DNS) isRight(ctx context.Context, want record) (right bool, err error) {
	var out *route53.ListResourceRecordSetsOutput
	err = d.steadily(ctx, func() error {
		out, err = d.client.ListResourceRecordSets(ctx, &route53.ListResourceRecordSetsInput{
			HostedZoneId: &d.config.Zone, StartRecordName: &want.name, StartRecordType: types.RRTypeA, MaxItems: aws.Int32(1),
		})
		return err
	})
	if err != nil || len(out.ResourceRecordSets) == 0 {
		return false, err
	}
	// The list begins with the name, or with what comes after it.
	set := out.ResourceRecordSets[0]
	if !strings.EqualFold(aws.ToString(set.Name), want.name) || set.Type != types.RRTypeA {
		return false, nil
	}
	if set.SetIdentifier != nil {
		return false, &RoutedError{Name: want.name, Identifier: *set.SetIdentifier, Zone: d.config.Zone}
	}
	return set.AliasTarget == nil && aws.ToInt64(set.TTL) == want.ttl &&
		len(set.ResourceRecords) == 1 && aws.ToString(set.ResourceRecords[0].Value) == want.address, nil
}

// change sends the record, again and again while the zone is busy. UPSERT is the same
// however often it is sent: a lost answer needs no asking.
func (d *DNS) change(ctx context.Context, want record) (id string, err error) {
	err = d.steadily(ctx, func() error {
		out, err := d.client.ChangeResourceRecordSets(ctx, &route53.ChangeResourceRecordSetsInput{
			HostedZoneId: &d.config.Zone,
			ChangeBatch: &types.ChangeBatch{
				Comment: aws.String("the writer's address"),
				Changes: []types.Change{{Action: types.ChangeActionUpsert, ResourceRecordSet: &types.ResourceRecordSet{
					Name: &want.name, Type: types.RRTypeA, TTL: &want.ttl, ResourceRecords: []types.ResourceRecord{{Value: &want.address}},
				}}},
			},
		})
		if err != nil {
			return err
		}
		if out.ChangeInfo == nil || out.ChangeInfo.Id == nil {
			return errors.New("the answer names no change")
		}
		id = *out.ChangeInfo.Id
		return nil
	})
	return id, err
}

// wait returns once all servers of the zone have the change.
func (d *DNS) wait(ctx context.Context, change string) error {
	for {
		var status types.ChangeStatus
		err := d.steadily(ctx, func() error {
			out, err := d.client.GetChange(ctx, &route53.GetChangeInput{Id: &change})
			if err == nil && out.ChangeInfo != nil {
				status = out.ChangeInfo.Status
			}
			return err
		})
		if err != nil || status == types.ChangeStatusInsync {
			return err
		}
		if err := d.rest(ctx, pollPause); err != nil {
			return fmt.Errorf("its status is %s: %w", status, err)
		}
	}
}

// steadily does what can be repeated until it is answered with something that will be the
// same another time: not that the zone is busy with another request
// (PriorRequestNotComplete), nor that there were too many requests, nor nothing.
func (d *DNS) steadily(ctx context.Context, do func() error) error {
	var last error
	for {
		err := do()
		if err == nil || !session.Temporary(err) && ctx.Err() == nil {
			return err
		}
		if ctx.Err() == nil || last == nil { // else it says no more than that the time is over
			last = err
		}
		if ended := d.rest(ctx, retryPause); ended != nil {
			return fmt.Errorf("%w; what was answered last: %w", ended, last)
		}
	}
}

// rest is session.Rest, with the pause of tests.
func (d *DNS) rest(ctx context.Context, pause time.Duration) error {
	if d.config.pause > 0 {
		pause = d.config.pause
	}
	return session.Rest(ctx, pause)
}
