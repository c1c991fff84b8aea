package unitfile

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// maxBytes bounds a unit file and an environment file.
const maxBytes = 1 << 20

// File is a unit file that was read.
type File struct {
	name string
	text []byte
	// settings are all assignments, in order.
	settings []setting
}

// setting is one assignment: key=value.
type setting struct {
	section, key string
	line         int // where it begins
	// value is what stands behind the equals sign, continuation lines joined by a
	// space; at says for each of its bytes where it stands in the file.
	value []byte
	at    []int
	// end is behind the value's last byte in the file.
	end int
}

// Parse reads a unit file; name is for messages.
func Parse(name string, text []byte) (*File, error) {
	f := &File{name: name, text: text}
	if len(text) > maxBytes {
		return nil, &SyntaxError{File: name, Line: 1, What: fmt.Sprintf("the file has %d bytes, more than %d", len(text), maxBytes)}
	}
	section := ""
	l := &lineReader{text: text}
	for l.next() {
		trimmed := bytes.TrimSpace(l.bytes)
		switch {
		case len(trimmed) == 0:
		case trimmed[0] == '[':
			if trimmed[len(trimmed)-1] != ']' {
				return nil, &SyntaxError{File: name, Line: l.line, What: fmt.Sprintf("%q is no section", trimmed)}
			}
			section = string(trimmed[1 : len(trimmed)-1])
		default:
			s, err := f.setting(section, l)
			if err != nil {
				return nil, err
			}
			f.settings = append(f.settings, s)
		}
	}
	return f, nil
}

// Text is the file.
func (f *File) Text() []byte { return slices.Clone(f.text) }

func (f *File) setting(section string, l *lineReader) (setting, error) {
	eq := bytes.IndexByte(l.bytes, '=')
	if eq < 0 {
		return setting{}, &SyntaxError{File: f.name, Line: l.line, What: fmt.Sprintf("%q is neither section nor assignment", bytes.TrimSpace(l.bytes))}
	}
	if section == "" {
		return setting{}, &SyntaxError{File: f.name, Line: l.line, What: "an assignment outside of any section"}
	}
	from, to := eq+1, len(l.bytes)
	for from < to && blank(l.bytes[from]) {
		from++
	}
	for to > from && blank(l.bytes[to-1]) {
		to--
	}
	s := setting{section: section, key: strings.TrimSpace(string(l.bytes[:eq])), line: l.line, value: l.bytes[from:to], at: l.at[from:to], end: l.end}
	if to > from {
		s.end = s.at[len(s.at)-1] + 1
	}
	return s, nil
}

func blank(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// list returns the settings of a list: an empty one forgets those before it.
func (f *File) list(section, key string) (out []setting) {
	for _, s := range f.settings {
		switch {
		case s.section != section || s.key != key:
		case len(s.value) == 0:
			out = nil
		default:
			out = append(out, s)
		}
	}
	return out
}

// Value is the last value of a setting that is no list, "" if there is none.
func (f *File) Value(section, key string) string {
	for _, s := range slices.Backward(f.settings) {
		if s.section == section && s.key == key {
			return string(s.value)
		}
	}
	return ""
}

// lineReader reads logical lines: one that ends in a backslash goes on with the
// next, and a space stands for the two; comments among them are skipped.
type lineReader struct {
	text []byte
	pos  int
	read int // lines read

	bytes []byte
	at    []int
	line  int // where it begins
	end   int // behind it, without the newline
}

func (l *lineReader) next() bool {
	l.bytes, l.at = nil, nil
	begun := false
	for l.pos < len(l.text) {
		from := l.pos
		to := from + bytes.IndexByte(l.text[from:], '\n')
		if l.pos = to + 1; to < from {
			to, l.pos = len(l.text), len(l.text)
		}
		l.read++
		raw := l.text[from:to]
		if c := bytes.TrimLeft(raw, " \t\r"); len(c) > 0 && (c[0] == '#' || c[0] == ';') {
			continue // also between the lines of a setting
		}
		if !begun {
			begun, l.line = true, l.read
		}
		body := bytes.TrimSuffix(raw, []byte("\r"))
		goesOn := bytes.HasSuffix(body, []byte(`\`))
		if goesOn {
			body = body[:len(body)-1]
		}
		for i := range body {
			l.bytes, l.at = append(l.bytes, body[i]), append(l.at, from+i)
		}
		if l.end = from + len(body); !goesOn {
			return true
		}
		l.bytes, l.at = append(l.bytes, ' '), append(l.at, l.end)
	}
	return begun
}

// Entry is one assignment of the file.
type Entry struct {
	Section, Key, Value string
	// Line is where it begins, from 1.
	Line int
}

// Entries are all assignments, in order, for who must know what else a unit asks for.
func (f *File) Entries() []Entry {
	out := make([]Entry, 0, len(f.settings))
	for _, s := range f.settings {
		out = append(out, Entry{Section: s.section, Key: s.key, Value: string(s.value), Line: s.line})
	}
	return out
}
