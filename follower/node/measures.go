package node

import (
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"originchain/shared/datadir"
	"originchain/shared/telemetry"
)

// measureCertificates has the page say how long the node is still known by what it shows:
// the least of all. Without TLS there is no such metric.
func measureCertificates(m *telemetry.Metrics, ends ...func() time.Time) {
	if len(ends) == 0 {
		return
	}
	m.GaugeFunc("oc_certificate_remaining_s", "Seconds until the first of the node's certificates ends, or an authority that it is known by; below 0 afterwards.",
		func() float64 {
			least := time.Until(ends[0]())
			for _, end := range ends[1:] {
				least = min(least, time.Until(end()))
			}
			return least.Seconds()
		})
}

// disks are the file systems of a data directory, which may be one.
type disks struct {
	fs   vfs.FS
	desc *prometheus.Desc
	// dirs are a directory of each, by the label's value.
	dirs map[string]string
}

func measureDisks(m *telemetry.Metrics, fs vfs.FS, dataDir string) {
	const name = "oc_disk_free_ratio"
	m.Register(&disks{fs: fs, desc: prometheus.NewDesc(name, "Free share of the file system that the state or the log is on, of what this process may use of it.", []string{"disk"}, nil),
		dirs: map[string]string{"state": dataDir, "log": datadir.LogOf(fs, dataDir)}}, name)
}

// Describe implements prometheus.Collector.
func (d *disks) Describe(out chan<- *prometheus.Desc) { out <- d.desc }

// Collect implements prometheus.Collector. Of a file system that cannot be asked nothing is
// said: any number would be wrong. The question is one for the kernel's own counters, and
// waits for no disk.
func (d *disks) Collect(out chan<- prometheus.Metric) {
	for disk, dir := range d.dirs {
		u, err := d.fs.GetDiskUsage(dir)
		if all := float64(u.AvailBytes) + float64(u.UsedBytes); err == nil && all > 0 {
			out <- prometheus.MustNewConstMetric(d.desc, prometheus.GaugeValue, float64(u.AvailBytes)/all, disk)
		}
	}
}
