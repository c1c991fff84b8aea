package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"originchain/shared/api"
)

// question is something a person may want to know, and how it is asked.
type question struct {
	title string
	sql   string
}

var busiest = question{
	"Which airports do most flights leave from?",
	`SELECT f.origin, a.name, a.city, COUNT(*) AS flights, ROUND(AVG(f.delay), 1) AS avg_delay_min
FROM demo.flights f
JOIN demo.airports a ON a.iata = f.origin
GROUP BY f.origin, a.name, a.city
ORDER BY flights DESC, f.origin
LIMIT 10`,
}

var worst = question{
	"Where were the worst average delays of each month, among airports with 50 flights or more?",
	`WITH monthly AS (
  SELECT SUBSTRING(f.date, 1, 7) AS month, f.origin, COUNT(*) AS flights, ROUND(AVG(f.delay), 1) AS avg_delay_min
  FROM demo.flights f
  GROUP BY SUBSTRING(f.date, 1, 7), f.origin
  HAVING COUNT(*) >= 50
), ranked AS (
  SELECT month, origin, flights, avg_delay_min,
         ROW_NUMBER() OVER (PARTITION BY month ORDER BY avg_delay_min DESC, origin) AS place
  FROM monthly
)
SELECT r.month, r.place, r.origin, a.name, r.flights, r.avg_delay_min
FROM ranked r
JOIN demo.airports a ON a.iata = r.origin
WHERE r.place <= 3
ORDER BY r.month, r.place`,
}

var plan = question{
	"How does the server find the late flights out of Honolulu?",
	`EXPLAIN SELECT id, date, destination, delay FROM demo.flights WHERE origin = 'HNL' AND delay > 60 ORDER BY delay DESC LIMIT 5`,
}

// tour asks three questions and shows the answers.
func (d *demo) tour(ctx context.Context) error {
	for _, q := range []question{busiest, worst} {
		started := time.Now()
		out, err := d.client.Select(ctx, d.at.Tenant, q.sql)
		if err != nil {
			return fmt.Errorf("ask %q: %w", q.title, err)
		}
		text, err := table(out)
		if err != nil {
			return err
		}
		d.sayf("\n%s\n\n%s\n\n%s\n  (%d rows in %s)\n", q.title, indented(q.sql), text, len(out.Rows), time.Since(started).Round(100*time.Microsecond))
	}
	tree, err := d.client.Explain(ctx, d.at.Tenant, plan.sql)
	if err != nil {
		return fmt.Errorf("ask %q: %w", plan.title, err)
	}
	d.sayf("\n%s\n\n%s\n\n%s\n", plan.title, indented(plan.sql), strings.TrimRight(tree, "\n"))
	return nil
}

func indented(s string) string { return "  " + strings.ReplaceAll(s, "\n", "\n  ") }

// table draws an answer with aligned columns: numbers to the right, text to the left.
func table(r *api.SelectResult) (string, error) {
	cells := make([][]string, len(r.Rows))
	right := make([]bool, len(r.Columns))
	for i, raw := range r.Rows {
		row, err := decodeRow(raw)
		if err != nil {
			return "", err
		}
		cells[i] = make([]string, len(r.Columns))
		for c, name := range r.Columns {
			cells[i][c] = row[name].text()
			right[c] = right[c] || row[name].number()
		}
	}
	width := make([]int, len(r.Columns))
	for c, name := range r.Columns {
		if right[c] {
			alignDecimals(cells, c)
		}
		width[c] = len([]rune(name))
		for _, row := range cells {
			width[c] = max(width[c], len([]rune(row[c])))
		}
	}
	var b strings.Builder
	writeLine(&b, r.Columns, width, right, " ")
	rule := make([]string, len(width))
	for c, w := range width {
		rule[c] = strings.Repeat("─", w)
	}
	writeLine(&b, rule, width, right, "─")
	for _, row := range cells {
		writeLine(&b, row, width, right, " ")
	}
	return b.String(), nil
}

// alignDecimals gives the numbers of a column the same count of decimals: JSON
// writes 12.0 as 12.
func alignDecimals(cells [][]string, c int) {
	decimals := func(s string) int {
		_, after, _ := strings.Cut(s, ".")
		return len(after)
	}
	most := 0
	for _, row := range cells {
		most = max(most, decimals(row[c]))
	}
	for _, row := range cells {
		if row[c] == "-" || most == decimals(row[c]) {
			continue
		}
		if !strings.Contains(row[c], ".") {
			row[c] += "."
		}
		row[c] += strings.Repeat("0", most-decimals(row[c]))
	}
}

func writeLine(b *strings.Builder, cells []string, width []int, right []bool, pad string) {
	line := make([]string, len(cells))
	for c, text := range cells {
		fill := strings.Repeat(pad, width[c]-len([]rune(text)))
		if right[c] {
			line[c] = fill + text
		} else {
			line[c] = text + fill
		}
	}
	b.WriteString("  " + strings.TrimRight(strings.Join(line, "  "), " ") + "\n")
}
