package archive

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"originchain/shared/telemetry"
)

// TestMetricsAreDocumented: docs/METRICS.md lists what an archive registers.
func TestMetricsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/METRICS.md")
	must(t, err)
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(oc_[a-z_]+)` \\|[^|]*\\|[^|]*\\| with an archive:").FindAllStringSubmatch(string(doc), -1) {
		documented = append(documented, m[1])
	}
	slices.Sort(documented)
	r := telemetry.NewMetrics()
	before := r.Names()
	NewMetrics(r)
	registered := slices.DeleteFunc(r.Names(), func(name string) bool { return slices.Contains(before, name) })
	if !slices.Equal(documented, registered) {
		t.Errorf("docs/METRICS.md and the code differ:\ndocumented %q\nregistered %q", documented, registered)
	}
}
