package schema

import (
	"sort"
	"strconv"

	"github.com/pelletier/go-toml/v2/unstable"

	"originchain/shared/fault"
)

// maxKeyDepth is the deepest key of a manifest, relations[0].target.pk, and one
// more to name what is unknown below it. Deeper keys share their parent's line,
// so that a key of a hundred thousand dots costs no more than its text.
const maxKeyDepth = 4

// The library looks for repeated keys by walking the siblings of each, so a
// table of a hundred thousand keys would cost it half a minute. No manifest
// within the bounds comes near either of these.
const (
	maxKeysPerTable  = 2 * maxEntries
	maxTableHeadings = 10 * maxEntries
)

// lineTracker gives every key of a document its line, by the path that
// tomlTable names it with: columns[2].default.
type lineTracker struct {
	p        unstable.Parser
	newlines []int
	lines    map[string]int
	entries  map[string]int // how many [[tables]] a path has so far
	crowded  int            // the line where a table has too many keys, 0 if none has
}

// keyLines reads a document as far as it is TOML; toml.Unmarshal says what is
// wrong with the rest. It refuses one that would be slow to unmarshal.
func keyLines(src []byte) (map[string]int, error) {
	k := lineTracker{lines: map[string]int{}, entries: map[string]int{}}
	for i, c := range src {
		if c == '\n' {
			k.newlines = append(k.newlines, i)
		}
	}
	k.p.Reset(src)
	table, depth, headings, keys := "", 0, 0, 0
	for k.p.NextExpression() {
		e := k.p.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table, depth = k.keys(e, "", 0, e.Kind == unstable.ArrayTable)
			keys = 0
			if headings++; headings > maxTableHeadings {
				return nil, fault.New(fault.ValidationFailed, "the manifest has more than %d tables; declare less", maxTableHeadings)
			}
		case unstable.KeyValue:
			keys++
			k.keyValue(e, table, depth, keys)
		}
		if k.crowded > 0 {
			return nil, fault.New(fault.ValidationFailed, "the manifest has a table of more than %d keys at line %d; declare less", maxKeysPerTable, k.crowded)
		}
	}
	return k.lines, nil
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

// keyValue records a key, the n-th of its table, and those inside its value.
func (k *lineTracker) keyValue(e *unstable.Node, path string, depth, n int) {
	if n > maxKeysPerTable {
		it := e.Key()
		it.Next()
		k.crowded = k.lineAt(int(it.Node().Raw.Offset))
		return
	}
	path, depth = k.keys(e, path, depth, false)
	k.value(e.Value(), path, depth)
}

// value records the keys of inline tables, also those inside an array. Those
// too deep to be recorded are walked all the same, to be counted; the library
// bounds how deep they go.
func (k *lineTracker) value(v *unstable.Node, path string, depth int) {
	children := v.Children()
	switch v.Kind {
	case unstable.InlineTable:
		for n := 1; children.Next() && k.crowded == 0; n++ {
			k.keyValue(children.Node(), path, depth, n)
		}
	case unstable.Array:
		if depth < maxKeyDepth {
			depth++
			for i := 0; children.Next(); i++ {
				k.value(children.Node(), path+"["+strconv.Itoa(i)+"]", depth)
			}
			return
		}
		for children.Next() {
			k.value(children.Node(), path, depth)
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
