package alarms

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const (
	rulesFile   = "../../docs/alerts.rules.yaml"
	metricsFile = "../../docs/METRICS.md"
	runbookFile = "../../docs/RUNBOOK.md"
	begin, end  = "<!-- alarms:begin -->\n", "<!-- alarms:end -->\n"
)

func document(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestGoldenRules(t *testing.T) {
	want := Rules(Table())
	if *update {
		if err := os.WriteFile(rulesFile, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, document(t, rulesFile)); diff != "" {
		t.Errorf("docs/alerts.rules.yaml is not what the table says (make golden; -table +file):\n%s", diff)
	}
	var parsed struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal([]byte(want), &parsed); err != nil || len(parsed.Groups) != 1 {
		t.Fatalf("%v: %+v", err, parsed)
	}
	rules := parsed.Groups[0].Rules
	for _, a := range Table() {
		for i := range a.Any {
			r := rules[0]
			if rules = rules[1:]; r.Alert != a.Name || r.Expr != a.Any[i].promQL() || r.Labels["severity"] != fmt.Sprint(int(a.Severity)) || r.Annotations["summary"] != a.Summary {
				t.Errorf("%s became %+v", a.Name, r)
			}
		}
	}
	if len(rules) != 0 {
		t.Errorf("rules of no alarm: %+v", rules)
	}
}

// docs/METRICS.md has the table of alarms, and a row of a metric speaks of an alarm if,
// and only if, there is one.
func TestGoldenMetrics(t *testing.T) {
	text := document(t, metricsFile)
	before, rest, ok := strings.Cut(text, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("docs/METRICS.md has no %q and %q", begin, end)
	}
	want := before + begin + Markdown(Table()) + end + after
	if *update {
		if err := os.WriteFile(metricsFile, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		text = want
	}
	if diff := cmp.Diff(want, text); diff != "" {
		t.Errorf("docs/METRICS.md is not what the table says (make golden; -table +file):\n%s", diff)
	}
	of := make(map[string]string)
	for _, a := range Table() {
		of[a.Name] = a.Phrase()
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(oc_[a-z_]+)` \\|.*$").FindAllStringSubmatch(text, -1) {
		_, says, _ := strings.Cut(m[0], " Alarm: ")
		if says = strings.TrimSuffix(says, " |"); !strings.EqualFold(says, of[m[1]]) {
			t.Errorf("docs/METRICS.md says %q of the alarm of %s, and the table %q", says, m[1], of[m[1]])
		}
	}
}

// Every alarm has a section in docs/RUNBOOK.md that begins with when it fires and how
// grave it is, in the order in which things are to be done; and every section that is
// named like one is of an alarm.
func TestRunbookHasASectionForEveryAlarm(t *testing.T) {
	text := document(t, runbookFile)
	sections := make(map[string]string)
	for _, s := range strings.Split(text, "\n## ")[1:] {
		name, body, _ := strings.Cut(s, "\n")
		if strings.HasPrefix(name, "`") {
			sections[strings.Trim(name, "`")] = strings.TrimSpace(body)
		}
	}
	order := regexp.MustCompile(`(?s)\n1\. \*\*Stop the bleeding\.\*\* .+\n2\. \*\*Root cause\.\*\* .+\n3\. \*\*Postmortem\.\*\* .+\n4\. \*\*Fix\.\*\* .+`)
	for _, a := range Table() {
		body, ok := sections[a.Name]
		if !ok {
			t.Errorf("docs/RUNBOOK.md has no section %s", a.Name)
			continue
		}
		delete(sections, a.Name)
		if want := fmt.Sprintf("*%s. Severity %d.*", a.Phrase(), a.Severity); !strings.HasPrefix(body, want) {
			first, _, _ := strings.Cut(body, "\n")
			t.Errorf("the section %s begins with %q, want %q", a.Name, first, want)
		}
		if !order.MatchString(body) {
			t.Errorf("the section %s does not go from the bleeding to the fix", a.Name)
		}
	}
	for name := range sections {
		t.Errorf("docs/RUNBOOK.md has a section %s, of which there is no alarm", name)
	}
	for _, r := range Responses() {
		ack, mitigate := r.Times()
		if row := fmt.Sprintf("| %d | %s | %s | %s |\n", r.Severity, r.Means, ack, mitigate); !strings.Contains(strings.ReplaceAll(text, "|  |", "| |"), strings.ReplaceAll(row, "|  |", "| |")) {
			t.Errorf("docs/RUNBOOK.md has no row %q", row)
		}
	}
}

func TestTheTableIsSound(t *testing.T) {
	var names, anchors []string
	for _, a := range Table() {
		names, anchors = append(names, a.Name), append(anchors, a.Anchor())
		if a.Severity < TenantDown || a.Severity > Drift || a.Summary == "" || len(a.Any) == 0 {
			t.Errorf("%+v", a)
		}
		for _, c := range a.Any {
			if counted := c.Kind == Rate || c.Kind == Increase || c.Kind == Quantile; counted != (c.Window > 0) || (c.Kind == Quantile) != (c.Quantile > 0) {
				t.Errorf("%s: %+v", a.Name, c)
			}
		}
	}
	for _, list := range [][]string{names, anchors} {
		slices.Sort(list)
		if n := len(list); len(slices.Compact(list)) != n {
			t.Errorf("twice in %v", list)
		}
	}
	design := []string{"oc_ask_latency_ms", "oc_plan_cache_hit_ratio", "oc_wal_fsync_lag_ms", "oc_replication_applied_lag_lsn", "oc_checkpoint_age_s", "oc_rate_limit_rejections_total", "oc_circuit_open_total", "/health", "/ready", "oc-controlplane-instance-silent", "oc_archive_unshipped_age_s", "oc_recoverable_until_age_s", "oc_lease_remaining_ms", "oc_pitr_last_verified_age_s", "oc_requests_seconds", "oc_archive_retention_age_s",
		"oc_disk_free_ratio", "oc-disk-full", "oc_certificate_remaining_s", "oc-certificate-ends"}
	for _, name := range design {
		if !slices.Contains(names, name) {
			t.Errorf("no alarm %s", name)
		}
	}
}

func TestCloudWatchAlarms(t *testing.T) {
	seen := make(map[string]CloudWatch)
	for _, w := range ForCloudWatch(Table()) {
		if _, twice := seen[w.Name]; twice || w.Periods < 1 || w.Period < shortPeriod || w.Period > 3600e9 || int(w.Period.Seconds())%10 != 0 {
			t.Errorf("%+v", w)
		}
		seen[w.Name] = w
	}
	for _, c := range []struct {
		name, metric, statistic, comparison string
		threshold                           float64
		seconds, periods                    int
		missing                             Missing
		perNode                             bool
	}{
		{"oc_wal_fsync_lag_ms", "oc_wal_fsync_lag_ms", "Maximum", "GreaterThanThreshold", 50, 10, 6, Ignore, false},
		{"oc_ask_latency_ms", "oc_ask_latency_ms", "p95", "GreaterThanThreshold", 100, 60, 5, NotBreaching, true},
		{"oc_plan_cache_hit_ratio", "oc_plan_cache_hit_ratio", "Minimum", "LessThanThreshold", 0.9, 60, 15, Ignore, false},
		{"oc_disk_free_ratio", "oc_disk_free_ratio", "Minimum", "LessThanThreshold", 0.15, 60, 5, Ignore, false},
		{"oc-disk-full", "oc_disk_free_ratio", "Minimum", "LessThanThreshold", 0.05, 10, 6, Ignore, false},
		{"oc_certificate_remaining_s", "oc_certificate_remaining_s", "Minimum", "LessThanThreshold", 2592000, 60, 15, Ignore, false},
		{"oc-certificate-ends", "oc_certificate_remaining_s", "Minimum", "LessThanThreshold", 604800, 60, 15, Ignore, false},
		{"oc_rate_limit_rejections_total", "oc_rate_limit_rejections_total", "Sum", "GreaterThanThreshold", 600, 60, 1, Ignore, true},
		{"oc_lease_remaining_ms", "oc_lease_remaining_ms", "Minimum", "LessThanOrEqualToThreshold", 0, 10, 1, NotBreaching, false},
		{"oc_replication_leader_connected", "oc_replication_leader_connected", "Minimum", "LessThanOrEqualToThreshold", 0, 10, 3, NotBreaching, false},
		{"health", "/health", "Maximum", "GreaterThanOrEqualToThreshold", 500, 10, 1, Ignore, false},
		{"health-probe_unanswered", "/health", "Minimum", "LessThanOrEqualToThreshold", 0, 10, 1, Breaching, true},
		{"ready", "/ready", "Maximum", "GreaterThanThreshold", 200, 10, 3, Ignore, false},
		{"ready-below", "/ready", "Minimum", "LessThanThreshold", 200, 10, 3, Ignore, false},
		{InstanceSilent, HeartbeatAge, "Maximum", "GreaterThanThreshold", 3, 10, 1, Breaching, false},
		{LastVerifiedAge, LastVerifiedAge, "Maximum", "GreaterThanThreshold", 129600, 3600, 1, Breaching, false},
	} {
		w := seen[c.name]
		got := fmt.Sprint(w.Metric, w.Statistic, w.Comparison, w.Threshold, w.Period.Seconds(), w.Periods, w.Missing, w.PerNode)
		if want := fmt.Sprint(c.metric, c.statistic, c.comparison, c.threshold, c.seconds, c.periods, c.missing, c.perNode); got != want {
			t.Errorf("%s: %s, want %s", c.name, got, want)
		}
	}
}
