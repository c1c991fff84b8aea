package drills

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// told collects what `make drills` prints in the end.
var told results

// results are how long clients went without an acknowledgement, by fault.
type results struct {
	mu    sync.Mutex
	lines []string
	took  map[string][]time.Duration
}

// drill tells of one drill: what was done, and from when to when nothing was acknowledged.
func (r *results) drill(name, fault string, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.took == nil {
		r.took = map[string][]time.Duration{}
	}
	r.took[fault] = append(r.took[fault], took)
	r.lines = append(r.lines, fmt.Sprintf("%-60s %-34s %6.2f s", name, fault, took.Seconds()))
}

// summary is a line for each drill, and one for each fault.
func (r *results) summary() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	if len(r.lines) == 0 {
		return ""
	}
	fmt.Fprintf(&b, "\nfrom the fault to the first write acknowledged in a new epoch (seed %d):\n", *seed)
	slices.Sort(r.lines)
	for _, line := range r.lines {
		b.WriteString("  " + line + "\n")
	}
	var faults []string
	for fault := range r.took {
		faults = append(faults, fault)
	}
	slices.Sort(faults)
	for _, fault := range faults {
		took := r.took[fault]
		slices.Sort(took)
		fmt.Fprintf(&b, "%-34s %2d drills, p50 %6.2f s, max %6.2f s\n", fault, len(took), took[len(took)/2].Seconds(), took[len(took)-1].Seconds())
	}
	return b.String()
}
