package schema

import (
	"sort"
	"strconv"

	"github.com/pelletier/go-toml/v2/unstable"
)

// maxKeyDepth is the deepest key of a manifest, relations[0].target.pk, and one
// more to name what is unknown below it. Deeper keys share their parent's line,
// so that a key of a hundred thousand dots costs no more than its text.
const maxKeyDepth = 4

// lineTracker gives every key of a document its line, by the path that
// tomlTable names it with: columns[2].default.
type lineTracker struct {
	p        unstable.Parser
	newlines []int
	lines    map[string]int
	entries  map[string]int // how many [[tables]] a path has so far
}

// keyLines expects a document that toml.Unmarshal has accepted.
func keyLines(src []byte) map[string]int {
	k := lineTracker{lines: map[string]int{}, entries: map[string]int{}}
	for i, c := range src {
		if c == '\n' {
			k.newlines = append(k.newlines, i)
		}
	}
	k.p.Reset(src)
	table, depth := "", 0
	for k.p.NextExpression() {
		e := k.p.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table, depth = k.keys(e, "", 0, e.Kind == unstable.ArrayTable)
		case unstable.KeyValue:
			k.keyValue(e, table, depth)
		}
	}
	return k.lines
}

// keys records the parts of a dotted key and returns the path of the last one.
// A part that [[tables]] were opened under means the latest of them; opens says
// that the last part opens another.
func (k *lineTracker) keys(n *unstable.Node, path string, depth int, opens bool) (string, int) {
	it := n.Key()
	for it.Next() && depth < maxKeyDepth {
		depth++
		if path != "" {
			path += "."
		}
		path += string(it.Node().Data)
		line := k.lineAt(int(it.Node().Raw.Offset))
		k.record(path, line)
		if opens && it.IsLast() {
			k.entries[path]++
		}
		if count := k.entries[path]; count > 0 {
			path += "[" + strconv.Itoa(count-1) + "]"
			k.record(path, line)
		}
	}
	return path, depth
}

func (k *lineTracker) keyValue(e *unstable.Node, path string, depth int) {
	path, depth = k.keys(e, path, depth, false)
	k.value(e.Value(), path, depth)
}

// value records the keys of inline tables, also those inside an array.
func (k *lineTracker) value(v *unstable.Node, path string, depth int) {
	if depth >= maxKeyDepth {
		return
	}
	children := v.Children()
	switch v.Kind {
	case unstable.InlineTable:
		for children.Next() {
			k.keyValue(children.Node(), path, depth)
		}
	case unstable.Array:
		for i := 0; children.Next(); i++ {
			k.value(children.Node(), path+"["+strconv.Itoa(i)+"]", depth+1)
		}
	}
}

// record keeps the first line of a path.
func (k *lineTracker) record(path string, line int) {
	if _, ok := k.lines[path]; !ok {
		k.lines[path] = line
	}
}

func (k *lineTracker) lineAt(offset int) int {
	return 1 + sort.SearchInts(k.newlines, offset)
}
