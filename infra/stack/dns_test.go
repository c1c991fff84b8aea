package stack_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"originchain/infra/config"
	"originchain/shared/alarms"
	"originchain/writer/agent"
)

func names(t *testing.T, f func(t *testing.T, w *world, n *config.Tenant, tm template)) {
	t.Helper()
	tenants(t, func(t *testing.T, w *world, n *config.Tenant, _, _ template) {
		f(t, w, n, w.stacks["OriginChain-"+n.Name+"-Dns"])
	})
}

// records are those of a stack by name, each name without its final dot.
func (tm template) records() map[string][]map[string]any {
	out := make(map[string][]map[string]any)
	for _, r := range tm.resources("AWS::Route53::RecordSet") {
		p := r["Properties"].(map[string]any)
		name := strings.TrimSuffix(p["Name"].(string), ".")
		out[name] = append(out[name], p)
	}
	return out
}

// zone answers as Route 53 does, while the nodes are healthy that are said to be.
type zone struct {
	tm      template
	healthy func(node string) bool
}

// well says whether a record is healthy.
func (z *zone) well(r map[string]any) bool {
	if alias, ok := r["AliasTarget"].(map[string]any); ok {
		return alias["EvaluateTargetHealth"] != true || slices.ContainsFunc(z.tm.records()[strings.TrimSuffix(alias["DNSName"].(string), ".")], z.well)
	}
	check := z.tm.resources("AWS::Route53::HealthCheck")[at(r, "HealthCheckId", "Fn::GetAtt", 0).(string)]
	alarm := at(check, "Properties", "HealthCheckConfig", "AlarmIdentifier", "Name")
	for _, a := range z.tm.resources("AWS::CloudWatch::Alarm") {
		if at(a, "Properties", "AlarmName") == alarm {
			return z.healthy(at(a, "Properties", "Dimensions", 1, "Value").(string))
		}
	}
	panic(fmt.Sprintf("no alarm %v", alarm))
}

// answer is the address of a name.
func (z *zone) answer(name string) string {
	var first, second map[string]any
	for _, r := range z.tm.records()[name] {
		switch r["Failover"] {
		case "PRIMARY":
			first = r
		case "SECONDARY":
			second = r
		default:
			panic(fmt.Sprintf("%v", r))
		}
	}
	// Of records none of which is healthy, the first one is answered.
	r := first
	if second != nil && !z.well(first) && z.well(second) {
		r = second
	}
	if alias := at(r, "AliasTarget", "DNSName"); alias != nil {
		return z.answer(strings.TrimSuffix(alias.(string), "."))
	}
	return z.tm.resolve(at(r, "ResourceRecords", 0))
}

// TestTheNameThatFollowsByHealth: whoever writes is named, whichever node it is; the first
// of several that say so, and the first node while none does.
func TestTheNameThatFollowsByHealth(t *testing.T) {
	names(t, func(t *testing.T, _ *world, n *config.Tenant, tm template) {
		ids := n.Nodes()
		if len(ids) == 1 {
			if got := tm.records(); len(got) != 1 {
				t.Errorf("a single node has the names %v", got)
			}
			return
		}
		for set := range 1 << len(ids) {
			writes := func(node string) bool { return set>>slices.Index(ids, node)&1 == 1 }
			z := &zone{tm: tm, healthy: writes}
			want := max(0, slices.IndexFunc(ids, writes))
			if address := "Interface" + string(rune('A'+want)); !strings.Contains(z.answer(n.AutoName()), address) {
				t.Errorf("of %v, set %b writes, and %s is %s", ids, set, n.AutoName(), z.answer(n.AutoName()))
			}
		}
		for name, records := range tm.records() {
			for _, r := range records {
				if r["HostedZoneId"] != n.ZoneID || r["Type"] != "A" || r["AliasTarget"] == nil && r["TTL"] != "60" {
					t.Errorf("%s: %v", name, r)
				}
			}
		}
	})
}

// TestHealthIsWhatNodesSayOfThemselves: by a metric of each node at the resolution that
// Route 53 reads; what is not known is not well. None of it is an incident.
func TestHealthIsWhatNodesSayOfThemselves(t *testing.T) {
	names(t, func(t *testing.T, w *world, n *config.Tenant, tm template) {
		want := make(map[string]map[string]any)
		for _, id := range n.Nodes() {
			if n.Followers > 0 {
				want["dns."+id] = map[string]any{"Namespace": alarms.Namespace(n.Name), "MetricName": "oc_node_writes", "Statistic": "Maximum", "Period": 60.0, "EvaluationPeriods": 1.0,
					"ComparisonOperator": "LessThanThreshold", "Threshold": 1.0, "TreatMissingData": "breaching", "ActionsEnabled": true,
					"Dimensions": []any{map[string]any{"Name": agent.InstanceDimension, "Value": n.Name}, map[string]any{"Name": agent.NodeDimension, "Value": id}}}
			}
		}
		got := make(map[string]map[string]any)
		for _, a := range tm.resources("AWS::CloudWatch::Alarm") {
			p := maps.Clone(a["Properties"].(map[string]any))
			name := p["AlarmName"].(string)
			for _, key := range []string{"AlarmName", "AlarmDescription", "Tags"} {
				delete(p, key)
			}
			got[name] = p
			// The rule of incidents is of names that begin with a tenant's and a hyphen.
			for i := range w.config.Tenants {
				if strings.HasPrefix(name, w.config.Tenants[i].Name+"-") {
					t.Errorf("%s would be an incident of %s", name, w.config.Tenants[i].Name)
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		checks := tm.resources("AWS::Route53::HealthCheck")
		if len(checks) != len(want) {
			t.Errorf("%d health checks, want %d", len(checks), len(want))
		}
		for id, c := range checks {
			config := at(c, "Properties", "HealthCheckConfig").(map[string]any)
			if config["Type"] != "CLOUDWATCH_METRIC" || config["InsufficientDataHealthStatus"] != "Unhealthy" || at(config, "AlarmIdentifier", "Region") != w.config.Region || want[at(config, "AlarmIdentifier", "Name").(string)] == nil || config["Inverted"] != nil {
				t.Errorf("%s: %v", id, config)
			}
		}
	})
}

// TestTheWritersNameIsMadeOnce: of the first node, and kept whatever becomes of the stack.
func TestTheWritersNameIsMadeOnce(t *testing.T) {
	names(t, func(t *testing.T, _ *world, n *config.Tenant, tm template) {
		r := tm.resources("AWS::Route53::RecordSet")["Writer"]
		if !stays(r) || len(tm.records()[n.Record]) != 1 {
			t.Errorf("%v", r)
		}
		p := r["Properties"].(map[string]any)
		if got := slices.Sorted(maps.Keys(p)); !slices.Equal(got, []string{"HostedZoneId", "Name", "ResourceRecords", "TTL", "Type"}) {
			t.Errorf("what is chosen among, the function that moves it refuses: %q", got)
		}
		if p["Name"] != n.Record+"." || p["TTL"] != "60" || p["Type"] != "A" || p["HostedZoneId"] != n.ZoneID || len(p["ResourceRecords"].([]any)) != 1 || !strings.Contains(tm.resolve(at(p, "ResourceRecords", 0)), "InterfaceAPrimaryPrivateIpAddress") {
			t.Errorf("%v", p)
		}
	})
}

const before = `{"account": "111122223333", "region": "eu-central-1", "mail_from": "status@example.com", "tenants": [
	{"name": "acme", "instance_id": "01JDV5K2Q8W3M0ZB7R4N6XHE90", "tier": "dev", "followers": 1, "zone": "db.example.com", "zone_id": "Z0123456789ABCDEFGHIJ"}]}`

const after = `{"account": "111122223333", "region": "eu-central-1", "mail_from": "other@example.com", "client_cidrs": ["192.168.0.0/24"], "tenants": [
	{"name": "aaaa", "instance_id": "01JDV5K2Q8W3M0ZB7R4N6XHE91", "tier": "dev", "zone": "db.example.com", "zone_id": "Z0123456789ABCDEFGHIJ"},
	{"name": "acme", "instance_id": "01JDV5K2Q8W3M0ZB7R4N6XHE90", "tier": "dedicated", "followers": 2, "sync": "strict", "retention_days": 7, "tail_ship": true, "architecture": "amd64", "dedicated_tenancy": true,
	 "key_arn": "arn:aws:kms:eu-central-1:111122223333:key/mrk-0123456789abcdef0123456789abcdef", "zone": "db.example.com", "zone_id": "Z0123456789ABCDEFGHIJ"}]}`

// TestNoDeploymentMovesTheWritersName: a failover has pointed it elsewhere, and CloudFormation
// would point it back where anything changes that its template says of it. Nor does
// another follower take a record away that is there: Route 53 refuses two that are alike.
func TestNoDeploymentMovesTheWritersName(t *testing.T) {
	const name = "OriginChain-acme-Dns"
	was, is := synthesize(t, "before", []byte(before)).stacks[name], synthesize(t, "after", []byte(after)).stacks[name]
	old, now := was.resources("AWS::Route53::RecordSet"), is.resources("AWS::Route53::RecordSet")
	if len(old) != 4 || len(now) != 5 {
		t.Errorf("%d records were %d", len(now), len(old))
	}
	for id, r := range old {
		if diff := cmp.Diff(r, now[id]); diff != "" {
			t.Errorf("%s (-before +after)\n%s", id, diff)
		}
	}
}
