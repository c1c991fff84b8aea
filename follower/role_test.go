package follower

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"originchain/shared/telemetry"
)

// TestMetricsAreDocumented: docs/METRICS.md lists what a follower registers beside
// what every node does.
func TestMetricsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(oc_[a-z_]+)` \\|[^|]*\\|[^|]*\\| on a follower:").FindAllStringSubmatch(string(doc), -1) {
		documented = append(documented, m[1])
	}
	r := telemetry.NewMetrics()
	before := r.Names()
	New(nil, Config{}, Deps{Metrics: r})
	registered := slices.DeleteFunc(r.Names(), func(n string) bool { return slices.Contains(before, n) })
	if !slices.Equal(documented, registered) {
		t.Errorf("docs/METRICS.md and a follower differ:\ndocumented %q\nregistered %q", documented, registered)
	}
}
