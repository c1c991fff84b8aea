package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// fields reads the keys of one JSON object and notes what is wrong with each, so that
// one pass finds every fault.
type fields struct {
	// path is where the object is, with a dot at its end, or "" for the outermost.
	path   string
	values map[string]json.RawMessage
	known  []string
	faults *[]string
}

func (f *fields) fault(key, format string, args ...any) {
	*f.faults = append(*f.faults, f.path+key+": "+fmt.Sprintf(format, args...))
}

// object begins an object; nil if the text is none.
func object(text json.RawMessage, path string, faults *[]string) *fields {
	f := &fields{path: path, faults: faults}
	if err := json.Unmarshal(text, &f.values); err != nil || f.values == nil {
		*faults = append(*faults, fmt.Sprintf("%s: want an object in braces, got %s", strings.TrimSuffix(path, "."), shown(text)))
		return nil
	}
	return f
}

// shown is a JSON text that fits a message.
func shown(text json.RawMessage) string {
	const most = 40
	if text = bytes.TrimSpace(text); len(text) > most {
		return strings.ToValidUTF8(string(text[:most]), "") + "…"
	}
	return string(text)
}

// value decodes a key into out; false if it is not there, or is of another type.
func value[T any](f *fields, key, want string, out *T) bool {
	f.known = append(f.known, key)
	text, ok := f.values[key]
	if !ok || string(text) == "null" {
		return false
	}
	var got T
	if err := json.Unmarshal(text, &got); err != nil {
		f.fault(key, "want %s, got %s", want, shown(text))
		return false
	}
	*out = got
	return true
}

func (f *fields) text(key, otherwise string) string {
	value(f, key, "a text in quotes", &otherwise)
	return otherwise
}

// needed is a text that must be there; "" after a fault.
func (f *fields) needed(key, hint string) (text string) {
	switch value(f, key, "a text in quotes", &text); {
	case text != "" || f.faulty(key):
	default:
		f.fault(key, "missing; %s", hint)
	}
	return text
}

// faulty says that the key was given, and not as what it is.
func (f *fields) faulty(key string) bool {
	return slices.ContainsFunc(*f.faults, func(s string) bool { return strings.HasPrefix(s, f.path+key+": ") })
}

func (f *fields) number(key string, otherwise int) int {
	value(f, key, "a whole number", &otherwise)
	return otherwise
}

func (f *fields) truth(key string) (yes bool) {
	value(f, key, "true or false", &yes)
	return yes
}

func (f *fields) texts(key string) (list []string) {
	value(f, key, "a list of texts", &list)
	return list
}

// choice is a text that is one of those given.
func choice[T ~string](f *fields, key string, otherwise T, of ...T) T {
	got := T(f.text(key, string(otherwise)))
	if slices.Contains(of, got) {
		return got
	}
	var names []string
	for _, o := range of {
		names = append(names, string(o))
	}
	f.fault(key, "%q is not known; it is one of %s", string(got), strings.Join(names, ", "))
	return otherwise
}

// unknown notes every key that nothing has asked for.
func (f *fields) unknown() {
	for _, key := range slices.Sorted(maps.Keys(f.values)) {
		if !slices.Contains(f.known, key) {
			f.fault(key, "unknown; known here are %s", strings.Join(slices.Sorted(slices.Values(f.known)), ", "))
		}
	}
}
