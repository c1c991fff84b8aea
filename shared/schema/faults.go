package schema

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"originchain/shared/fault"
)

// manifestFaults collects everything that is wrong with a manifest, so that its
// author mends it in one round. It keeps one fault per place: what the decoder
// said of a key stands, what follows from it is not said again.
type manifestFaults struct {
	lines map[string]int // line of each key path, absent for manifests that were not parsed
	seen  map[string]bool
	list  []manifestFault
}

type manifestFault struct {
	line int
	path string
	text string
	code fault.Code
}

func (f *manifestFaults) add(path, format string, args ...any) {
	f.addCode(fault.ValidationFailed, path, format, args...)
}

func (f *manifestFaults) addCode(code fault.Code, path, format string, args ...any) {
	if f.seen[path] {
		return
	}
	if f.seen == nil {
		f.seen = map[string]bool{}
	}
	f.seen[path] = true
	f.list = append(f.list, manifestFault{f.line(path), path, fmt.Sprintf(format, args...), code})
}

// line finds the line of a key, or of the nearest thing around it that the
// document has; 0 when the manifest was not parsed.
func (f *manifestFaults) line(path string) int {
	for path != "" {
		if n, ok := f.lines[path]; ok {
			return n
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return 0
}

// err is nil when nothing is wrong. The code is the faults' own when they agree
// on one, validation_failed otherwise.
func (f *manifestFaults) err() error {
	if len(f.list) == 0 {
		return nil
	}
	slices.SortStableFunc(f.list, func(a, b manifestFault) int {
		return cmp.Or(cmp.Compare(a.line, b.line), strings.Compare(a.path, b.path))
	})
	const mostBytes = 300 // of a path or a text, which may quote a long value
	code := f.list[0].code
	var b strings.Builder
	if len(f.list) > 1 {
		fmt.Fprintf(&b, "the manifest has %d faults: ", len(f.list))
	} else {
		b.WriteString("the manifest has a fault: ")
	}
	for i, one := range f.list {
		if one.code != code {
			code = fault.ValidationFailed
		}
		if i == maxListedFaults {
			fmt.Fprintf(&b, "; and %d more", len(f.list)-i)
		}
		if i >= maxListedFaults {
			continue
		}
		if i > 0 {
			b.WriteString("; ")
		}
		if one.line > 0 {
			fmt.Fprintf(&b, "line %d: ", one.line)
		}
		if one.path != "" {
			b.WriteString(clip(one.path, mostBytes) + ": ")
		}
		b.WriteString(clip(one.text, mostBytes))
	}
	return fault.New(code, "%s", b.String())
}
