package stack_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"originchain/infra/config"
	"originchain/shared/alarms"
)

// TestWhoIsNotToldWakesSomebody: what fails twice in a row, since an attempt follows, and what
// is given up at once, since none does.
func TestWhoIsNotToldWakesSomebody(t *testing.T) {
	observed(t, func(t *testing.T, _ *world, n *config.Tenant, tm template) {
		got, want := map[string]any{}, map[string]any{}
		for name, c := range map[string]struct {
			metric  string
			periods float64
		}{"failing": {alarms.DeliveriesFailed, 2}, "given-up": {alarms.DeliveriesGivenUp, 1}} {
			want[n.Name+"-deliveries-"+name] = []any{c.metric, alarms.Namespace(n.Name), []any{map[string]any{"Name": "Instance", "Value": n.Name}}, "Sum", "GreaterThanThreshold", 0.0, 900.0, c.periods, c.periods, "notBreaching"}
		}
		for _, a := range tm.resources("AWS::CloudWatch::Alarm") {
			p := a["Properties"].(map[string]any)
			if name := p["AlarmName"].(string); want[name] != nil {
				got[name] = []any{p["MetricName"], p["Namespace"], p["Dimensions"], p["Statistic"], p["ComparisonOperator"], p["Threshold"], p["Period"], p["EvaluationPeriods"], p["DatapointsToAlarm"], p["TreatMissingData"]}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	})
}
