package httpx

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"originchain/shared/fault"
)

// MaxJSONDepth is how deep a request's JSON may nest.
const MaxJSONDepth = 64

// Typed makes a Handler of a function from a JSON request to a JSON answer.
// In is a struct whose fields say what the envelope must look like: a field
// without omitempty must be there, a name that no field has is refused. An
// empty body stands for {} where no field is required.
func Typed[In, Out any](status int, fn func(c *Call, in In) (Out, error)) Handler {
	shape := shapeOf(reflect.TypeFor[In]())
	return func(c *Call) error {
		var in In
		if err := c.decode(&in, shape); err != nil {
			return err
		}
		out, err := fn(c, in)
		if err != nil {
			return err
		}
		return c.JSON(status, out)
	}
}

// Reply makes a Handler of a function that needs no body.
func Reply[Out any](status int, fn func(c *Call) (Out, error)) Handler {
	return func(c *Call) error {
		out, err := fn(c)
		if err != nil {
			return err
		}
		return c.JSON(status, out)
	}
}

// FromHTTP makes a Handler of one that answers by itself, such as the metrics page.
func FromHTTP(h http.Handler) Handler {
	return func(c *Call) error {
		h.ServeHTTP(c.Writer(), c.Request)
		return nil
	}
}

// shape is what an envelope may and must hold.
type shape struct {
	fields   []string
	required []string
}

// shapeOf reads the shape from the JSON tags of a struct. Anything else than a
// struct with tagged fields is a programming fault, found when routes are made.
func shapeOf(t reflect.Type) shape {
	if t.Kind() != reflect.Struct {
		panic(fmt.Sprintf("httpx: a request type is a struct, not %s", t))
	}
	var s shape
	for i := range t.NumField() {
		name, options, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name == "" || name == "-" {
			panic(fmt.Sprintf("httpx: field %s of %s has no JSON name", t.Field(i).Name, t))
		}
		s.fields = append(s.fields, name)
		if options != "omitempty" && options != "omitzero" {
			s.required = append(s.required, name)
		}
	}
	return s
}

// bodies lends out buffers for envelopes, which do not outlive their decoding.
var bodies = sync.Pool{New: func() any { return new([]byte) }}

// decode reads the body into the struct that in points to.
func (c *Call) decode(in any, s shape) error {
	lent := bodies.Get().(*[]byte)
	body, err := c.readBody(*lent)
	defer func() {
		if cap(body) <= maxPooledBytes {
			*lent = body[:0]
		}
		bodies.Put(lent)
	}()
	if err != nil {
		return err
	}
	if len(body) == 0 && len(s.required) == 0 {
		return nil
	}
	return decodeEnvelope(body, in, s)
}

// decodeEnvelope reads src, one JSON object, into the struct that in points to.
// What is not JSON is invalid_json (400); JSON that is not this envelope is
// validation_failed with 422.
func decodeEnvelope(src []byte, in any, s shape) error {
	if err := CheckJSON(src, MaxJSONDepth); err != nil {
		return err
	}
	members, err := topLevel(src, s)
	if err != nil {
		return err
	}
	for _, name := range s.required {
		if value, ok := members[name]; !ok || string(value) == "null" {
			return fault.New(fault.InvalidEnvelope, "the request lacks the field %q; it takes %s", name, s).With("field", name)
		}
	}
	dec := json.NewDecoder(bytes.NewReader(src))
	dec.DisallowUnknownFields() // of nested objects; the top level is checked above, exact in case too
	if err := dec.Decode(in); err != nil {
		var mismatch *json.UnmarshalTypeError
		if errors.As(err, &mismatch) {
			return fault.New(fault.InvalidEnvelope, "the field %q cannot be a JSON %s; see docs/openapi.yaml for its type", mismatch.Field, mismatch.Value).
				With("field", mismatch.Field)
		}
		return fault.New(fault.InvalidEnvelope, "the request does not have the form of this call; it takes %s (%v)", s, err)
	}
	return nil
}

// String lists the fields for an error message.
func (s shape) String() string {
	if len(s.fields) == 0 {
		return "no fields"
	}
	return strings.Join(s.fields, ", ")
}

// topLevel splits a valid JSON object into its members and refuses names that
// the shape does not have, spelled exactly so, and names given twice: of two
// values encoding/json would take the last, another reader the first.
func topLevel(src []byte, s shape) (map[string]json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(src))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return nil, fault.New(fault.InvalidEnvelope, "the request is a JSON object; it takes %s", s)
	}
	members := make(map[string]json.RawMessage, len(s.fields))
	for dec.More() {
		token, err := dec.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return nil, fault.New(fault.InvalidJSON, "the request is not valid JSON").Wrap(err)
		}
		known := false
		for _, f := range s.fields {
			known = known || f == name
		}
		if !known {
			return nil, fault.New(fault.InvalidEnvelope, "%q is not a field of this request; it takes %s", name, s).With("field", name)
		}
		if _, twice := members[name]; twice {
			return nil, fault.New(fault.InvalidEnvelope, "the field %q is there twice; send it once", name).With("field", name)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, fault.New(fault.InvalidJSON, "the value of %q is not valid JSON", name).Wrap(err)
		}
		members[name] = value
	}
	return members, nil
}

// CheckJSON says whether src is one JSON text in valid UTF-8 that nests no
// deeper than maxDepth; the error is invalid_json and names the byte.
func CheckJSON(src []byte, maxDepth int) error {
	if len(src) == 0 {
		return fault.New(fault.InvalidJSON, "the body is empty; send a JSON text")
	}
	if !utf8.Valid(src) {
		return fault.New(fault.InvalidJSON, "the body is not valid UTF-8 at byte %d; encode text as UTF-8 and bytes as base64", invalidAt(src))
	}
	if at, deep := deeper(src, maxDepth); deep {
		return fault.New(fault.InvalidJSON, "the body nests deeper than %d levels at byte %d; flatten it", maxDepth, at)
	}
	if !json.Valid(src) {
		var discard any
		var syntax *json.SyntaxError
		err := json.Unmarshal(src, &discard)
		if errors.As(err, &syntax) {
			return fault.New(fault.InvalidJSON, "the body is not valid JSON at byte %d: %s", syntax.Offset, syntax.Error())
		}
		return fault.New(fault.InvalidJSON, "the body is not valid JSON").Wrap(err)
	}
	if at, lone := loneSurrogate(src); lone {
		return fault.New(fault.InvalidJSON, "the escape at byte %d is half of a surrogate pair and names no character; send both halves or plain UTF-8", at)
	}
	return nil
}

// loneSurrogate finds an escape of valid JSON that names half a character.
// encoding/json would put U+FFFD in its place, without a word.
func loneSurrogate(src []byte) (at int, lone bool) {
	for i := 0; i+1 < len(src); i++ {
		if src[i] != '\\' {
			continue
		}
		i++ // the escaped character; in valid JSON a backslash is always inside a string
		if src[i] != 'u' {
			continue
		}
		switch unit := escapedUnit(src, i-1); {
		case 0xD800 <= unit && unit < 0xDC00:
			if low := escapedUnit(src, i+5); low < 0xDC00 || low > 0xDFFF {
				return i - 1, true
			}
			i += 6 + 4
		case 0xDC00 <= unit && unit <= 0xDFFF:
			return i - 1, true
		default:
			i += 4
		}
	}
	return 0, false
}

// escapedUnit is the UTF-16 unit of the \u escape at i, or -1 if there is none.
func escapedUnit(src []byte, i int) int64 {
	if i+6 > len(src) || src[i] != '\\' || src[i+1] != 'u' {
		return -1
	}
	unit, err := strconv.ParseUint(string(src[i+2:i+6]), 16, 16)
	if err != nil {
		return -1
	}
	return int64(unit)
}

// invalidAt is the offset of the first byte that is not UTF-8.
func invalidAt(src []byte) int {
	for i := 0; i < len(src); {
		r, size := utf8.DecodeRune(src[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return len(src)
}

// deeper finds the first bracket that opens a level below maxDepth. It needs no
// valid JSON: brackets inside strings are skipped, which is all that matters.
func deeper(src []byte, maxDepth int) (at int, deep bool) {
	depth, inString := 0, false
	for i := 0; i < len(src); i++ {
		switch c := src[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return i, true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return 0, false
}
