package model

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// Violation is one thing that is not as the model has it.
type Violation struct {
	Service, Operation string
	// Path leads to the value, from the input or the output.
	Path string
	What string
}

// String implements fmt.Stringer.
func (v Violation) String() string {
	return fmt.Sprintf("%s %s: %s: %s", v.Service, v.Operation, v.Path, v.What)
}

// found collects what is wrong with one request or answer.
type found struct {
	service   *Service
	operation string
	list      []Violation
}

func (f *found) add(path, format string, args ...any) {
	f.list = append(f.list, Violation{Service: f.service.Name, Operation: f.operation, Path: path, What: fmt.Sprintf(format, args...)})
}

// check holds a value against its shape: its type, and all that the model bounds.
func (f *found) check(path string, shape *Shape, value any) {
	if shape == nil {
		f.add(path, "the model has no such shape")
		return
	}
	switch v := value.(type) {
	case Struct:
		f.checkStruct(path, shape, v)
	case []any:
		if f.is(path, shape, value, "list") {
			f.bounds(path, shape, float64(len(v)), "items")
			for i, item := range v {
				f.check(path+"["+strconv.Itoa(i)+"]", f.service.shape(shape.Member), item)
			}
		}
	case string:
		if f.is(path, shape, value, "string", "character") {
			f.checkString(path, shape, v)
		}
	case []byte:
		if f.is(path, shape, value, "blob") {
			f.bounds(path, shape, float64(len(v)), "bytes")
		}
	case int64:
		if f.is(path, shape, value, "integer", "long") {
			f.bounds(path, shape, float64(v), "")
		}
	case float64:
		if f.is(path, shape, value, "float", "double") {
			f.bounds(path, shape, v, "")
		}
	case bool:
		f.is(path, shape, value, "boolean")
	case time.Time:
		f.is(path, shape, value, "timestamp")
	default:
		f.add(path, "%T is no type of a model", value)
	}
}

func (f *found) is(path string, shape *Shape, value any, types ...string) bool {
	if slices.Contains(types, shape.Type) {
		return true
	}
	f.add(path, "%s is a %s, and this is a %T", shape.Name, shape.Type, value)
	return false
}

func (f *found) checkStruct(path string, shape *Shape, v Struct) {
	if !f.is(path, shape, v, "structure", "map") {
		return
	}
	if shape.Type == "map" {
		f.bounds(path, shape, float64(len(v)), "entries")
		for _, key := range slices.Sorted(maps.Keys(v)) {
			f.check(path+" key "+strconv.Quote(key), f.service.shape(shape.Key), key)
			f.check(path+"["+strconv.Quote(key)+"]", f.service.shape(shape.Value), v[key])
		}
		return
	}
	for _, name := range shape.Required {
		if _, ok := v[name]; !ok {
			f.add(path+"."+name, "%s requires it", shape.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v)) {
		member, ok := shape.Members[name]
		if !ok {
			f.add(path+"."+name, "%s has no such member", shape.Name)
			continue
		}
		f.check(path+"."+name, f.service.Shapes[member.Shape], v[name])
	}
}

func (f *found) bounds(path string, shape *Shape, n float64, unit string) {
	if unit != "" {
		unit = " " + unit
	}
	if shape.Min != nil && n < *shape.Min {
		f.add(path, "%v%s; %s has at least %v", n, unit, shape.Name, *shape.Min)
	}
	if shape.Max != nil && n > *shape.Max {
		f.add(path, "%v%s; %s has at most %v", n, unit, shape.Name, *shape.Max)
	}
}

func (f *found) checkString(path string, shape *Shape, v string) {
	if !utf8.ValidString(v) {
		f.add(path, "it is not UTF-8")
	}
	f.bounds(path, shape, float64(utf8.RuneCountInString(v)), "characters")
	if len(shape.Enum) > 0 && !slices.Contains(shape.Enum, v) {
		f.add(path, "%q is none of %s: %v", v, shape.Name, shape.Enum)
	}
	if shape.Pattern == "" {
		return
	}
	matches, err := f.service.matches(shape, v)
	if err != nil {
		f.add(path, "the pattern of %s cannot be checked: %v: give it a function in patterns", shape.Name, err)
	} else if !matches {
		f.add(path, "%q is not of the pattern of %s: %s", v, shape.Name, shape.Pattern)
	}
}

// matches says whether a pattern is in the string, as Smithy defines it: patterns that
// mean all of it are anchored. Those that Go's regexp does not take have a function.
func (s *Service) matches(shape *Shape, v string) (bool, error) {
	if is, ok := patterns()[shape.Name]; ok {
		return is(v), nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	re := s.patterns[shape.Pattern]
	if re == nil {
		var err error
		if re, err = regexp.Compile(shape.Pattern); err != nil {
			return false, err
		}
		s.patterns[shape.Pattern] = re
	}
	return re.MatchString(v), nil
}
