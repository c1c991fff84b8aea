package schema

import (
	"bytes"
	"encoding/base64"
	"strings"
	"unicode/utf8"
	"unsafe"

	"originchain/shared/fault"
)

// MaxRowJSONBytes bounds the JSON of one row.
const MaxRowJSONBytes = 8 << 20

// strictBase64 is the standard alphabet with padding, and no stray bits.
var strictBase64 = base64.StdEncoding.Strict()

// jsonPlan is what Compile prepares for JSON rows: the keys of a body, and what
// a row holds before any of them is read.
type jsonPlan struct {
	fields   []string       // the columns' names, then the undeclared roots
	index    map[string]int // position in fields
	defaults Row
	required []int
	roots    []jsonRoot
	rootOf   map[int]int // position in roots of a field that extractions read
	opening  []string    // `{"id":`, `,"date":`, …
}

// jsonRoot is the first key of extraction paths: a str column that holds JSON,
// or a key of the body of which only what is extracted is kept.
type jsonRoot struct {
	field    int
	declared bool
	columns  []int // the extractions that read it
}

func newJSONPlan(t *Table) jsonPlan {
	p := jsonPlan{index: make(map[string]int, len(t.Columns)), rootOf: map[int]int{}}
	for i, c := range t.Columns {
		p.fields = append(p.fields, c.Name)
		p.index[c.Name] = i
		p.defaults = append(p.defaults, c.Default)
		if c.Required {
			p.required = append(p.required, i)
		}
		sep := ","
		if i == 0 {
			sep = "{"
		}
		p.opening = append(p.opening, sep+`"`+c.Name+`":`)
	}
	for i, c := range t.Columns {
		if !c.Extraction {
			continue
		}
		field, known := p.index[c.Path[0]]
		if !known {
			field = len(p.fields)
			p.fields = append(p.fields, c.Path[0])
			p.index[c.Path[0]] = field
		}
		r, known := p.rootOf[field]
		if !known {
			r = len(p.roots)
			p.rootOf[field] = r
			p.roots = append(p.roots, jsonRoot{field: field, declared: field < len(t.Columns)})
		}
		p.roots[r].columns = append(p.roots[r].columns, i)
	}
	return p
}

// maxFields is the most keys a body may have: every column an extraction with a
// root of its own is the worst case.
const maxFields = 2 * MaxColumns

// rowDecoder decodes one JSON object into one row.
type rowDecoder struct {
	t *Table
	s scanner
	// row's strings wait in text, each value holding offset<<32 | length: a row
	// costs one allocation for all its strings, however many it has.
	row  Row
	text []byte
	seen [(maxFields + 63) / 64]uint64
	// undeclared holds the JSON of undeclared roots, by position in plan.roots.
	undeclared [][]byte
}

// DecodeJSON decodes one flat JSON object into a row of t, with defaults for
// columns it does not name and extractions applied. It uses into's storage when
// that is large enough; the row does not alias src. Strict JSON is required, and
// each key at most once. An extraction's column may be given by name too, so that
// a row can be written back as it was read; it must then agree with its path.
//
// Faults: invalid_json, unknown_column, type_mismatch, missing_column,
// body_too_large above MaxRowJSONBytes, and validation_failed where an extraction
// and its path disagree.
func (t *Table) DecodeJSON(src []byte, into Row) (Row, error) {
	if len(src) > MaxRowJSONBytes {
		return nil, fault.New(fault.BodyTooLarge, "a row of %d bytes of JSON for table %s, more than %d; keep large content elsewhere and its address here", len(src), t.ID, MaxRowJSONBytes)
	}
	d := rowDecoder{t: t, s: scanner{src: src}, row: sized(into, len(t.Columns))}
	copy(d.row, t.json.defaults)
	if err := d.object(); err != nil {
		return nil, err
	}
	if len(t.json.roots) > 0 {
		if err := d.extract(); err != nil {
			return nil, err
		}
	}
	if err := d.complete(); err != nil {
		return nil, err
	}
	d.bindText()
	return d.row, nil
}

func (d *rowDecoder) object() error {
	if d.s.space() != '{' {
		return d.s.unexpected("a JSON object")
	}
	cursor := 0
	var err error
	more := d.s.open('}')
	for more && err == nil {
		var key []byte
		if key, err = d.s.key(); err != nil {
			return err
		}
		field, ok := d.field(key, cursor)
		if !ok {
			return d.t.errUnknownColumn(string(key))
		}
		cursor = field + 1
		if d.given(field) {
			return d.s.fail("key %q occurs twice", clip(string(key), maxQuoted))
		}
		d.seen[field/64] |= 1 << (field % 64)
		if err = d.fieldValue(field); err != nil {
			return err
		}
		more, err = d.s.next('}')
	}
	if err != nil {
		return err
	}
	return d.s.end()
}

// field finds a key among the fields. Rows of one client have their keys in one
// order, mostly the manifest's, so the field after the previous one is tried
// before the map.
func (d *rowDecoder) field(key []byte, cursor int) (int, bool) {
	p := &d.t.json
	if cursor < len(p.fields) && p.fields[cursor] == string(key) {
		return cursor, true
	}
	i, ok := p.index[string(key)]
	return i, ok
}

func (d *rowDecoder) given(field int) bool { return d.seen[field/64]>>(field%64)&1 != 0 }

func (d *rowDecoder) fieldValue(field int) error {
	if len(d.t.json.roots) > 0 {
		if r, ok := d.t.json.rootOf[field]; ok {
			return d.rootValue(r)
		}
	}
	c := &d.t.Columns[field]
	v, err := d.value(&d.s, c, nil)
	d.row[field] = v
	return err
}

// value decodes the value at s as c's type. path is set when it is read at an
// extraction's path; it names the place in the message.
func (d *rowDecoder) value(s *scanner, c *Column, path []string) (Value, error) {
	switch ch := s.space(); ch {
	case '"':
		return d.textValue(s, c, path)
	case 't', 'f':
		word := "true"
		if ch == 'f' {
			word = "false"
		}
		if err := s.literal(word); err != nil {
			return Value{}, err
		}
		if c.Type != TypeBool {
			return Value{}, d.mismatch(c, path, "is a bool")
		}
		return Bool(ch == 't'), nil
	case 'n':
		return Value{}, s.literal("null")
	case '{', '[':
		if ch == '{' {
			return Value{}, d.mismatch(c, path, "is an object")
		}
		return Value{}, d.mismatch(c, path, "is an array")
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		raw, err := s.number()
		if err != nil {
			return Value{}, err
		}
		return d.numberValue(raw, c, path)
	}
	return Value{}, s.unexpected("a value")
}

func (d *rowDecoder) numberValue(raw []byte, c *Column, path []string) (Value, error) {
	switch c.Type {
	case TypeI64:
		negative, m, why := parseInteger(raw)
		switch {
		case why != "":
		case negative && m <= 1<<63:
			return I64(int64(-m)), nil
		case !negative && m < 1<<63:
			return I64(int64(m)), nil
		default:
			why = outOfRange
		}
		return Value{}, d.mismatch(c, path, clip(string(raw), maxQuoted)+" "+why)
	case TypeU64:
		negative, m, why := parseInteger(raw)
		if negative && m != 0 && why == "" {
			why = outOfRange
		}
		if why != "" {
			return Value{}, d.mismatch(c, path, clip(string(raw), maxQuoted)+" "+why)
		}
		return U64(m), nil
	case TypeF64:
		f, ok := parseFloat(raw)
		if !ok {
			return Value{}, d.mismatch(c, path, clip(string(raw), maxQuoted)+" "+outOfRange)
		}
		return F64(f), nil
	}
	return Value{}, d.mismatch(c, path, "is a number")
}

// maxQuoted bounds what a message quotes from a request.
const maxQuoted = 64

// clip shortens text for a message to at most most bytes, between runes.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most] + "…"
}

func (d *rowDecoder) textValue(s *scanner, c *Column, path []string) (Value, error) {
	raw, escaped, err := s.text()
	if err != nil {
		return Value{}, err
	}
	if d.text == nil {
		d.text = make([]byte, 0, len(d.s.src)) // no string is longer decoded than written
	}
	start := len(d.text)
	switch c.Type {
	case TypeStr:
		if escaped {
			d.text, err = s.unescape(d.text, raw)
		} else {
			d.text = append(d.text, raw...)
		}
		if err != nil {
			return Value{}, err
		}
	case TypeBytes:
		if escaped {
			if raw, err = s.unescape(make([]byte, 0, len(raw)), raw); err != nil {
				return Value{}, err
			}
		}
		// The library skips line breaks; standard base64 in JSON has none.
		if bytes.ContainsAny(raw, "\r\n") {
			return Value{}, d.mismatch(c, path, "is not standard base64 with padding")
		}
		if d.text, err = strictBase64.AppendDecode(d.text, raw); err != nil {
			return Value{}, d.mismatch(c, path, "is not standard base64 with padding")
		}
	default:
		return Value{}, d.mismatch(c, path, "is a string")
	}
	return d.waiting(start, c.Type), nil
}

// waiting is a value whose content stands in d.text from start on.
func (d *rowDecoder) waiting(start int, t Type) Value {
	return Value{n: uint64(start)<<32 | uint64(len(d.text)-start), t: t}
}

// content is a value's text, waiting or bound.
func (d *rowDecoder) content(v Value) []byte {
	if v.s != "" {
		return []byte(v.s)
	}
	from := v.n >> 32
	return d.text[from : from+v.n&(1<<32-1)]
}

// bindText gives the waiting values their strings. A bound value that is empty
// looks like a waiting one of length 0 and stays the same.
func (d *rowDecoder) bindText() {
	// text is not written to again, so it can be the string itself, unless that
	// would hold much memory for little.
	const mostSpareBytes = 128
	text := unsafe.String(unsafe.SliceData(d.text), len(d.text))
	if cap(d.text)-len(d.text) > mostSpareBytes {
		text = string(d.text)
	}
	for i := range d.row {
		v := &d.row[i]
		if (v.t == TypeStr || v.t == TypeBytes) && v.s == "" {
			from := v.n >> 32
			v.s = text[from : from+v.n&(1<<32-1)]
			v.n = 0
		}
	}
}

// complete requires a value in every required column.
func (d *rowDecoder) complete() error {
	var missing []string
	for _, i := range d.t.json.required {
		if d.row[i].t == TypeNull {
			missing = append(missing, d.t.Columns[i].Name)
		}
	}
	if missing != nil {
		return d.t.errMissing(missing)
	}
	return nil
}

// mismatch makes the fault for a value of the wrong type; what describes it.
func (d *rowDecoder) mismatch(c *Column, path []string, what string) error {
	if path != nil {
		at := strings.Join(path, ".")
		return fault.New(fault.TypeMismatch, "extraction %q of table %s is %s, and the value at path %s %s", c.Name, d.t.ID, c.Type, at, what).With("column", c.Name).With("path", at)
	}
	return fault.New(fault.TypeMismatch, "column %q of table %s is %s, and its value %s", c.Name, d.t.ID, c.Type, what).With("column", c.Name)
}

// AppendJSON appends r as a flat JSON object, its columns in manifest order,
// NULL as null. DecodeJSON of the same table reads it back as the same row.
func (t *Table) AppendJSON(dst []byte, r Row) []byte {
	for i := range t.Columns {
		dst = append(dst, t.json.opening[i]...)
		dst = AppendValueJSON(dst, r[i])
	}
	return append(dst, '}')
}

// AppendValueJSON appends one value as JSON: numbers as numbers, floats in their
// shortest form, bytes in base64.
func AppendValueJSON(dst []byte, v Value) []byte {
	switch v.t {
	case TypeStr:
		return appendJSONText(dst, v.s)
	case TypeBytes:
		dst = append(dst, '"')
		dst = base64.StdEncoding.AppendEncode(dst, []byte(v.s))
		return append(dst, '"')
	case TypeNull:
		return append(dst, "null"...)
	default:
		return appendPlain(dst, v)
	}
}

const hexDigits = "0123456789abcdef"

// appendJSONText quotes s. Bytes that are no UTF-8, which no checked row has,
// become U+FFFD, so that an answer is valid JSON whatever is stored.
func appendJSONText(dst []byte, s string) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				dst = append(append(dst, s[from:i]...), "\uFFFD"...)
				from = i + 1
			}
			i += n
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		dst = append(append(dst, s[from:i]...), '\\')
		switch c {
		case '"', '\\':
			dst = append(dst, c)
		case '\n':
			dst = append(dst, 'n')
		case '\r':
			dst = append(dst, 'r')
		case '\t':
			dst = append(dst, 't')
		default:
			dst = append(dst, 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		from = i
	}
	return append(append(dst, s[from:]...), '"')
}
