package notify

import (
	"errors"
	"strings"
	"testing"

	"originchain/shared/alarms"
	"originchain/shared/aws/cwalarms"
	"originchain/shared/incident"
)

// opened are an incident of an alarm and one of a failover, of another instance.
func (d *desk) opened(instance string) (ids []string) {
	d.t.Helper()
	for _, c := range []incident.Cause{{Alarm: alarms.InstanceSilent, Instance: instance}, {Failover: "R9", Instance: instance}} {
		i, err := d.store.Open(d.t.Context(), incident.Opening{ID: "of-" + instance + "-" + c.Alarm + c.Failover, Severity: alarms.TenantDown, Title: "x", Text: "x", Cause: c})
		if err != nil {
			d.t.Fatal(err)
		}
		ids = append(ids, i.ID)
	}
	return ids
}

// over says how many of the incidents are.
func (d *desk) over(ids []string) (n int) {
	d.t.Helper()
	for _, id := range ids {
		i, ok, err := d.store.Get(d.t.Context(), id)
		if err != nil || !ok {
			d.t.Fatal(id, ok, err)
		}
		if i.Resolved != nil {
			n++
		}
	}
	return n
}

// Incidents of an instance that was removed end, and whoever is told of them hears it once.
func TestAnInstanceThatIsGone(t *testing.T) {
	d := newDesk(t)
	ids, nobodys := d.opened("globex"), d.opened("")
	d.book.Deployed = []string{"acme", "initech"}
	d.elsewhere = map[string][]cwalarms.Alarm{"globex-": {{Name: "globex-eu-oc-controlplane-instance-silent", State: "OK", Since: d.now}}} // another's
	d.minutes(3)
	if n := d.over(ids); n != len(ids) {
		t.Errorf("%d of %d are over", n, len(ids))
	}
	if n := d.over(nobodys); n != 0 {
		t.Errorf("%d that are of no instance are over", n)
	}
	if n := d.told("globex is not deployed any more"); n != len(ids) {
		t.Errorf("%d mails say that it is gone, of %d incidents", n, len(ids))
	}
}

// An instance that may be there is never taken to be gone: it is configured, or has an alarm,
// or one of both is not known.
func TestAnInstanceThatIsThere(t *testing.T) {
	silent := func(instance string) map[string][]cwalarms.Alarm {
		return map[string][]cwalarms.Alarm{instance + "-": {{Name: instance + "-oc-controlplane-instance-silent", State: "INSUFFICIENT_DATA"}}}
	}
	for name, set := range map[string]func(*desk){
		"it is configured":                      func(d *desk) { d.book.Deployed = []string{"acme", "globex"} },
		"it was added since":                    func(d *desk) { d.book.Deployed, d.elsewhere = []string{"acme"}, silent("globex") },
		"what is configured is not known":       func(*desk) {},
		"what is configured has not even ours":  func(d *desk) { d.book.Deployed = []string{"initech"} },
		"how its alarms stand cannot be read":   func(d *desk) { d.book.Deployed, d.fail = []string{"acme"}, errors.New("AccessDenied") },
		"one of its nodes has an alarm, at all": func(d *desk) { d.book.Deployed, d.elsewhere = []string{"acme"}, perNode("globex") },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			ids := d.opened("globex")
			set(d)
			_, err := d.Handle(t.Context(), []byte(`{"source":"aws.scheduler"}`))
			if d.over(ids) != 0 || d.told("not deployed any more") != 0 {
				t.Error("its incidents are over")
			}
			if d.fail != nil && (err == nil || !strings.Contains(err.Error(), "globex")) {
				t.Errorf("that it is not known is not said: %v", err)
			}
		})
	}
}

// perNode is an alarm of one node.
func perNode(instance string) map[string][]cwalarms.Alarm {
	for _, c := range alarms.ForCloudWatch(alarms.Table()) {
		if c.PerNode {
			return map[string][]cwalarms.Alarm{instance + "-": {{Name: c.Of(instance, instance+"-a"), State: "OK"}}}
		}
	}
	return nil
}
