package node

import (
	"os"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus/hooks/test"

	"originchain/shared/telemetry"
	"originchain/writer/process"
)

// docs/METRICS.md lists what a process registers whatever its role is.
func TestMetricsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(oc_[a-z_]+)` \\|[^|]*\\|[^|]*\\| on a node of either role:").FindAllStringSubmatch(string(doc), -1) {
		documented = append(documented, m[1])
	}
	m := telemetry.NewMetrics()
	before := m.Names()
	log, _ := test.NewNullLogger()
	onStep(process.Deps{Metrics: m, Log: log})(1)
	measureDisks(m, vfs.Default, t.TempDir())
	measureCertificates(m, time.Now)
	registered := slices.DeleteFunc(m.Names(), func(n string) bool { return slices.Contains(before, n) })
	if d := cmp.Diff(documented, registered); d != "" {
		t.Error(d)
	}
}
