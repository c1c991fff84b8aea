package sql

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	gms "github.com/dolthub/go-mysql-server/sql"
	ast "github.com/dolthub/vitess/go/vt/sqlparser"

	"originchain/shared/api"
	"originchain/shared/fault"
)

// explain answers EXPLAIN: the plan as a tree, and with ANALYZE, which runs the
// query, the rows and the time of every node. A statement that writes is planned
// and never run.
func (e *Engine) explain(ctx context.Context, cmd *command, tx Tx, s *ast.Explain) (*Result, error) {
	switch strings.ToLower(s.ExplainFormat) {
	case "", ast.TreeStr, ast.TraditionalStr:
	default:
		return nil, fault.New(fault.Unsupported, "EXPLAIN FORMAT=%s is not available; the plan is a text tree", strings.ToUpper(s.ExplainFormat))
	}
	r := reading{text: cmd.text, params: cmd.params}
	var above []string
	var err error
	switch inner := s.Statement.(type) {
	case ast.SelectStatement:
		r.stmt = inner
		if err = check(inner); err == nil {
			// A plan alone reads nothing, so it needs no transaction to lock in.
			r.lock, err = lockOf(inner, cmd.TxID != "" || !s.Analyze)
		}
	default:
		if s.Analyze {
			return nil, fault.New(fault.Unsupported, "EXPLAIN ANALYZE runs its statement, so it takes a SELECT only; use EXPLAIN")
		}
		r.stmt, above, err = e.explainWrite(tx, inner)
	}
	if err != nil {
		return nil, err
	}
	res := &Result{Kind: api.KindExplain}
	if r.stmt == nil {
		res.Plan = tree{label: above[0]}.String()
		return res, nil
	}
	var node gms.Node
	r.planned = func(n gms.Node) error {
		node = n
		if !s.Analyze {
			res.Plan = wrap(above, describePlan(n, nil)).String()
		}
		return nil
	}
	if s.Analyze {
		r.profile = &profile{nodes: map[gms.Node]*nodeStats{}}
		r.row = func(gms.Row) error { return nil }
	}
	if err := e.read(ctx, tx, r); err != nil {
		return nil, err
	}
	if s.Analyze {
		t := describePlan(node, r.profile)
		res.Plan, res.Stats = t.String(), t.stats()
	}
	return res, nil
}

// explainWrite makes the SELECT that a statement that writes would run, and the
// nodes that stand above it.
func (e *Engine) explainWrite(tx Tx, stmt ast.Statement) (ast.Statement, []string, error) {
	switch s := stmt.(type) {
	case *ast.Update:
		w, source, _, err := e.planUpdate(tx, s)
		if err != nil {
			return nil, nil, err
		}
		return source, []string{"Update(" + w.t.Table.ID + ")"}, nil
	case *ast.Delete:
		w, source, err := e.planDelete(tx, s)
		if err != nil {
			return nil, nil, err
		}
		return source, []string{"Delete(" + w.t.Table.ID + ")"}, nil
	case *ast.Insert:
		w, err := e.target(tx, s.Table)
		if err != nil {
			return nil, nil, err
		}
		above := []string{"Insert(" + w.t.Table.ID + ")"}
		source, ok := s.Rows.(ast.SelectStatement)
		if !ok {
			return nil, above, nil
		}
		return source, above, check(source)
	}
	return nil, nil, fault.New(fault.Unsupported, "EXPLAIN takes SELECT, INSERT, UPDATE and DELETE")
}

// tree is a plan as it is shown.
type tree struct {
	label    string
	notes    []string // what a node says of itself, one line each
	children []tree
	stat     *nodeStats
}

// wrap puts nodes above a plan.
func wrap(above []string, t tree) tree {
	for i := len(above) - 1; i >= 0; i-- {
		t = tree{label: above[i], children: []tree{t}}
	}
	return t
}

// describePlan turns a plan into a tree. The planner prints a node as its name
// and, indented, what it says of itself and then its children; the children are
// cut off, to be described one by one.
func describePlan(n gms.Node, p *profile) tree {
	children := n.Children()
	lines := strings.Split(strings.TrimRight(n.String(), "\n"), "\n")
	t := tree{label: lines[0]}
	var entries []string
	for _, line := range lines[1:] {
		if rest, ok := topEntry(line); ok {
			entries = append(entries, rest)
		}
	}
	if own := len(entries) - len(children); own > 0 {
		t.notes = entries[:own]
	}
	for _, c := range children {
		t.children = append(t.children, describePlan(c, p))
	}
	if p != nil && isPointer(n) {
		t.stat = p.nodes[n]
	}
	return t
}

// topEntry is the text of a line that begins an entry directly below the root.
func topEntry(line string) (string, bool) {
	for _, mark := range []string{" ├─ ", " └─ "} {
		if rest, ok := strings.CutPrefix(line, mark); ok {
			return rest, true
		}
	}
	return "", false
}

// String prints the tree, children indented behind └─.
func (t tree) String() string {
	var b strings.Builder
	t.print(&b, "", "")
	return b.String()
}

func (t tree) print(b *strings.Builder, first, rest string) {
	b.WriteString(first + t.label)
	if t.stat != nil {
		fmt.Fprintf(b, " (rows=%d loops=%d time=%sms)", t.stat.rows, t.stat.loops, millis(t.stat.took))
	}
	b.WriteByte('\n')
	n := len(t.notes) + len(t.children)
	for i, note := range t.notes {
		b.WriteString(rest + branch(i == n-1) + note + "\n")
	}
	for i, c := range t.children {
		last := len(t.notes)+i == n-1
		below := " │  "
		if last {
			below = "    "
		}
		c.print(b, rest+branch(last), rest+below)
	}
}

func branch(last bool) string {
	if last {
		return " └─ "
	}
	return " ├─ "
}

func millis(d time.Duration) string {
	return strconv.FormatFloat(float64(d.Microseconds())/1000, 'f', 3, 64)
}

// stats lists the nodes in the order of the tree: name, depth, rows, loops and
// milliseconds, those of the children included.
func (t tree) stats() []byte {
	dst := []byte(`{"nodes":[`)
	n := 0
	var walk func(t tree, depth int)
	walk = func(t tree, depth int) {
		s := t.stat
		if s == nil {
			s = &nodeStats{}
		}
		if n > 0 {
			dst = append(dst, ',')
		}
		n++
		dst = append(dst, `{"node":`...)
		dst = appendString(dst, t.label)
		dst = appendUintField(dst, "depth", uint64(depth))
		dst = appendUintField(dst, "rows", s.rows)
		dst = appendUintField(dst, "loops", s.loops)
		dst = append(dst, `,"ms":`+millis(s.took)+`}`...)
		for _, c := range t.children {
			walk(c, depth+1)
		}
	}
	walk(t, 0)
	return append(dst, "]}"...)
}
