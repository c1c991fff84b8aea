package stack_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"originchain/infra/config"
)

// matches says whether EventBridge takes an event for one of a pattern's, for what our
// patterns have of its language: strings by their whole, and by their beginning. An error
// says that a pattern has something else, as one with a typing error would.
func matches(pattern map[string]any, event any) (bool, error) {
	if len(pattern) == 0 {
		return false, fmt.Errorf("a pattern without a field")
	}
	all := true
	fields, _ := event.(map[string]any)
	for name, want := range pattern {
		// What is not there matches nothing.
		value, there := fields[name]
		var is bool
		var err error
		switch w := want.(type) {
		case map[string]any:
			is, err = matches(w, value)
		case []any:
			is, err = oneOf(w, value)
		default:
			err = fmt.Errorf("a %T is no part of a pattern", want)
		}
		if err != nil {
			return false, fmt.Errorf("%s: %w", name, err)
		}
		all = all && there && is
	}
	return all, nil
}

// oneOf says whether a value, or one in a list of values, is one that is wanted.
func oneOf(wanted []any, value any) (bool, error) {
	values, list := value.([]any)
	if !list {
		values = []any{value}
	}
	if len(wanted) == 0 {
		return false, fmt.Errorf("a list without a value")
	}
	found := false
	for _, w := range wanted {
		test := func(v string) bool { return v == w }
		if filter, ok := w.(map[string]any); ok {
			prefix, is := filter["prefix"].(string)
			if !is || len(filter) != 1 {
				return false, fmt.Errorf("%v is not known here", filter)
			}
			test = func(v string) bool { return strings.HasPrefix(v, prefix) }
		} else if _, ok := w.(string); !ok {
			return false, fmt.Errorf("%v, a %T, is not known here", w, w)
		}
		found = found || slices.ContainsFunc(values, func(v any) bool {
			s, is := v.(string)
			return is && test(s)
		})
	}
	return found, nil
}

func TestMatches(t *testing.T) {
	event := map[string]any{"source": "a.b", "resources": []any{"x", "y"}, "detail": map[string]any{"n": 7.0, "state": map[string]any{"value": "ON"}}}
	for pattern, want := range map[string]string{
		`{"source": ["a.b"]}`: "true", `{"source": ["c", "a.b"]}`: "true", `{"source": ["a"]}`: "false", `{"source": ["A.B"]}`: "false",
		`{"source": [{"prefix": "a."}]}`: "true", `{"source": [{"prefix": "b"}]}`: "false",
		`{"resources": ["y"]}`: "true", `{"resources": ["z"]}`: "false", `{"resource": ["y"]}`: "false", `{"resources": {"y": ["y"]}}`: "false",
		`{"detail": {"state": {"value": ["ON"]}}}`: "true", `{"detail": {"state": {"values": ["ON"]}}}`: "false", `{"detail": {"state": ["ON"]}}`: "false",
		`{"source": ["a.b"], "detail": {"state": {"value": ["OFF"]}}}`: "false",
		`{}`: "error", `{"source": "a.b"}`: "error", `{"source": []}`: "error", `{"source": [{"suffix": "b"}]}`: "error", `{"source": [{"prefix": ["a"]}]}`: "error",
		`{"detail": {"n": [7]}}`: "error", `{"source": ["c"], "detail": {}}`: "error", `{"source": [["a.b"]]}`: "error",
	} {
		var p map[string]any
		if err := json.Unmarshal([]byte(pattern), &p); err != nil {
			t.Fatal(err)
		}
		is, err := matches(p, event)
		got := fmt.Sprint(is)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%s: %s (%v), want %s", pattern, got, err, want)
		}
	}
}

// recordedEvent is one of those that the functions are tested with, as if it were a tenant's.
func recordedEvent(t *testing.T, w *world, n *config.Tenant, name string) map[string]any {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../lambdas/silence/testdata", name+".json"))
	var event map[string]any
	if err == nil {
		text := strings.NewReplacer("acme", n.Name, "123456789012", w.config.Account, "eu-central-1", w.config.Region).Replace(string(b))
		err = json.Unmarshal([]byte(text), &event)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return event
}

// TestRulesTakeTheirEvents: of the recorded events a rule takes those that it is for, and
// no other.
func TestRulesTakeTheirEvents(t *testing.T) {
	files, err := filepath.Glob("../../lambdas/silence/testdata/*.json")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d recorded events: %v", len(files), err)
	}
	// All alarms of a tenant become incidents, however they change.
	wanted := map[string][]string{
		"Failover":      {"eventbridge-alarm"},
		"Observability": {"eventbridge-alarm", "ok", "other-alarm", "forged-arn", "forged-partition", "malformed"},
	}
	tenants(t, func(t *testing.T, w *world, n *config.Tenant, _, _ template) {
		rules := 0
		for stack, tm := range w.stacks {
			part, ours := strings.CutPrefix(stack, "OriginChain-"+n.Name+"-")
			for id, r := range tm.resources("AWS::Events::Rule") {
				if !ours && slices.ContainsFunc(w.config.Tenants, func(o config.Tenant) bool { return strings.HasPrefix(stack, "OriginChain-"+o.Name+"-") }) {
					continue // another tenant's
				}
				rules++
				pattern, ok := at(r, "Properties", "EventPattern").(map[string]any)
				if !ok || wanted[part] == nil {
					t.Errorf("%s of %s: nobody says what it is to take: %v", id, stack, pattern)
					continue
				}
				for _, f := range files {
					name := strings.TrimSuffix(filepath.Base(f), ".json")
					takes(t, stack, pattern, name, recordedEvent(t, w, n, name), slices.Contains(wanted[part], name))
				}
				elsewhere := recordedEvent(t, w, n, "eventbridge-alarm")
				elsewhere["region"], elsewhere["resources"] = "ap-south-2", []any{"arn:aws:cloudwatch:ap-south-2:" + w.config.Account + ":alarm:" + at(elsewhere, "detail", "alarmName").(string)}
				// Rules see the events of their own region: the rule of all alarms leaves it at that.
				takes(t, stack, pattern, "another region's", elsewhere, part == "Observability")
			}
		}
		if rules != len(wanted) {
			t.Errorf("%d rules, and it is said of %d what they take", rules, len(wanted))
		}
	})
}

func takes(t *testing.T, stack string, pattern map[string]any, name string, event map[string]any, want bool) {
	t.Helper()
	if is, err := matches(pattern, event); err != nil || is != want {
		t.Errorf("%s: the event %s is taken: %t, %v", stack, name, is, err)
	}
}
