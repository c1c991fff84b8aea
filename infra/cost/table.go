package cost

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"originchain/infra/prices"
)

// Use is something that is charged for as it is used, with how much of it is an example.
type Use struct {
	What       string
	Quantities map[string]float64
}

// month is how many seconds one has.
const month = Hours * 3600

// TailWindow is how often nodes ship the end of the log: the default of shared/archive.
const TailWindow = 500 * time.Millisecond

// Uses are examples of what use adds. The lease is none, but of what every region's list has
// no price for.
func Uses() []Use {
	return []Use{
		{"The lease of an instance, renewed every second, used or not", map[string]float64{"dynamodb.write": month}},
		{"100 GiB in the archive", map[string]float64{"s3.gib": 100}},
		{"With `tail_ship`, a tenant that writes all the time: the end of the log into the archive every " + TailWindow.String(), map[string]float64{"s3.put": month / TailWindow.Seconds()}},
		{"1 GiB of logs, of nodes or of the network, kept for a year", map[string]float64{"logs.ingested": 1, "logs.stored": 12}},
	}
}

// Tables renders what a deployment costs in a region, as Markdown: a column for what the
// region has once, and one for each instance. The error has everything without a price.
func Tables(l *prices.List, counted map[string]Quantities, instances []string) (string, error) {
	columns := append([]string{RegionalInstance}, instances...)
	var b strings.Builder
	fmt.Fprintf(&b, "### %s, prices of %s\n\n| USD a month | once a region | %s |\n|---|%s\n", l.Region, l.Date, strings.Join(instances, " | "), strings.Repeat("---:|", len(columns)))
	sums := make([]float64, len(columns))
	var faults []error
	for _, part := range Parts() {
		fmt.Fprintf(&b, "| %s |", part)
		for i, name := range columns {
			usd, err := l.Cost(counted[name][part])
			faults = append(faults, err)
			sums[i] += usd
			fmt.Fprintf(&b, " %s |", money(usd))
		}
		b.WriteString("\n")
	}
	b.WriteString("| **together** |")
	for _, s := range sums {
		fmt.Fprintf(&b, " **%s** |", money(s))
	}
	b.WriteString("\n")
	if err := errors.Join(faults...); err != nil {
		return "", err
	}
	return b.String(), nil
}

// money leaves nothing that costs something at zero.
func money(usd float64) string {
	switch {
	case usd == 0:
		return "-"
	case usd < 0.005:
		return "< 0.01"
	}
	return fmt.Sprintf("%.2f", usd)
}

// UseTable renders the examples of what use adds.
func UseTable(l *prices.List) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "### What use adds in %s, and the lease\n\n| for example | USD a month |\n|---|---:|\n", l.Region)
	for _, u := range Uses() {
		usd, err := l.Cost(u.Quantities)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "| %s | %s |\n", u.What, money(usd))
	}
	return b.String(), nil
}

// SourceTable renders where the prices are from.
func SourceTable(l *prices.List) string {
	var b strings.Builder
	fmt.Fprintf(&b, "### Where the prices of %s are from\n\n| prices | from | as of | read |\n|---|---|---|---|\n", l.Region)
	for _, name := range slices.Sorted(maps.Keys(l.Sources)) {
		var of []string
		for _, key := range slices.Sorted(maps.Keys(l.Prices)) {
			if l.Prices[key].Source == name {
				of = append(of, key)
			}
		}
		s := l.Sources[name]
		asOf := s.AsOf
		if asOf == "" {
			asOf = "not said"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", strings.Join(of, ", "), s.What, asOf, s.Read)
	}
	return b.String()
}
