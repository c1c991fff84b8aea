package node

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus/hooks/test"

	"originchain/shared/devca"
	"originchain/shared/telemetry"
	"originchain/shared/tenant"
	"originchain/writer/config"
	"originchain/writer/process"
)

// sizes are file systems of which each directory has its own.
type sizes struct {
	vfs.FS
	of map[string]vfs.DiskUsage
}

func (s sizes) GetDiskUsage(dir string) (vfs.DiskUsage, error) {
	u, ok := s.of[dir]
	if !ok {
		return u, errors.New("there is no such directory")
	}
	return u, nil
}

// page is what the metrics of a name say, by the labels.
func page(t *testing.T, m *telemetry.Metrics, name string) map[string]float64 {
	t.Helper()
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]float64)
	for _, f := range families {
		for _, metric := range f.GetMetric() {
			if f.GetName() == name {
				labels := ""
				for _, l := range metric.GetLabel() {
					labels += fmt.Sprintf("%s=%s", l.GetName(), l.GetValue())
				}
				out[labels] = metric.GetGauge().GetValue()
			}
		}
	}
	return out
}

// TestFreeSpaceIsThatOfEachDisk, of what this process may use: what is kept back for others
// is not free. A disk that cannot be asked is neither full nor free.
func TestFreeSpaceIsThatOfEachDisk(t *testing.T) {
	fs := sizes{FS: vfs.NewMem(), of: map[string]vfs.DiskUsage{
		"/d":     {AvailBytes: 60, TotalBytes: 120, UsedBytes: 40},
		"/d/log": {AvailBytes: 1, TotalBytes: 200, UsedBytes: 199},
	}}
	m := telemetry.NewMetrics()
	measureDisks(m, fs, "/d")
	if d := cmp.Diff(map[string]float64{"disk=state": 0.6, "disk=log": 0.005}, page(t, m, "oc_disk_free_ratio")); d != "" {
		t.Error(d)
	}
	delete(fs.of, "/d")
	fs.of["/d/log"] = vfs.DiskUsage{}
	if got := page(t, m, "oc_disk_free_ratio"); len(got) > 0 {
		t.Errorf("nothing is known, and it says %v", got)
	}
}

// TestTheFirstEndCounts, and its metric is there where there is TLS alone.
func TestTheFirstEndCounts(t *testing.T) {
	const name = "oc_certificate_remaining_s"
	in := func(d time.Duration) func() time.Time { return func() time.Time { return time.Now().Add(d) } }
	for _, c := range []struct {
		ends  []func() time.Time
		hours float64
	}{
		{[]func() time.Time{in(10 * time.Hour), in(5 * time.Hour)}, 5},
		{[]func() time.Time{in(5 * time.Hour), in(10 * time.Hour)}, 5},
		{[]func() time.Time{in(-5 * time.Hour)}, -5},
	} {
		m := telemetry.NewMetrics()
		measureCertificates(m, c.ends...)
		if got := page(t, m, name)[""] / 3600; got < c.hours-1 || got > c.hours+1 {
			t.Errorf("%g hours, want %g", got, c.hours)
		}
	}
	m := telemetry.NewMetrics()
	measureCertificates(m)
	if got := page(t, m, name); len(got) > 0 || slices.Contains(m.Names(), name) {
		t.Errorf("without a certificate: %v", got)
	}
}

// TestANodeMeasuresItself, whatever its role is and whether it may ever write.
func TestANodeMeasuresItself(t *testing.T) {
	for _, mode := range []string{config.ModeWriter, config.ModeFollower} {
		log, _ := test.NewNullLogger()
		dir := t.TempDir()
		audit, err := telemetry.OpenAudit(filepath.Join(dir, "audit.log"), log)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := audit.Close(); err != nil {
				t.Error(err)
			}
		}()
		admin, err := tenant.NewAdminToken(adminText)
		if err != nil {
			t.Fatal(err)
		}
		certs := t.TempDir()
		if _, err := devca.Make(devca.Options{Dir: certs, Nodes: []string{"a"}, Hosts: devca.DefaultHosts(), Days: 3, Now: time.Now()}); err != nil {
			t.Fatal(err)
		}
		cfg := config.Config{Mode: mode, DataDir: dir, ReplicationTLSDir: filepath.Join(certs, "a")}
		if err := vfs.Default.MkdirAll(filepath.Join(dir, "log"), 0o700); err != nil {
			t.Fatal(err)
		}
		// Of the API's certificate and the node's own, whichever is first.
		for api, days := range map[time.Duration]float64{24 * time.Hour: 1, 240 * time.Hour: 3} {
			deps := process.Deps{Log: log, Metrics: telemetry.NewMetrics(), Audit: audit, Admin: admin, CertificateEnds: func() time.Time { return time.Now().Add(api) }}
			if _, err := New(cfg, deps, mode == config.ModeWriter); err != nil {
				t.Fatal(err)
			}
			if free := page(t, deps.Metrics, "oc_disk_free_ratio"); len(free) != 2 || free["disk=log"] <= 0 || free["disk=log"] > 1 {
				t.Errorf("%s: %v", mode, free)
			}
			if left := page(t, deps.Metrics, "oc_certificate_remaining_s")[""] / 86400; left < days-0.5 || left > days+0.5 {
				t.Errorf("%s: %g days, want %g", mode, left, days)
			}
		}
	}
}
