package schema

import (
	"encoding/json"
	"strconv"
	"unicode/utf8"

	"originchain/shared/fault"
)

// ParsePK reads the primary key of a path: an integer in decimal, a string as it
// is, true or false, a JSON number for f64, standard base64 for bytes. One value
// has one spelling for integers, so that one row has one address. Faults:
// type_mismatch, and unsupported for a key of several columns.
func (t *Table) ParsePK(s string) (Value, error) {
	if len(t.PK) != 1 {
		return Value{}, fault.New(fault.Unsupported, "the primary key of table %s has %d columns, and a path holds one value; use SQL with a WHERE over them", t.ID, len(t.PK))
	}
	c := &t.Columns[t.PK[0]]
	switch c.Type {
	case TypeStr:
		if utf8.ValidString(s) {
			return Str(s), nil
		}
	case TypeI64:
		if n, err := strconv.ParseInt(s, 10, 64); err == nil && strconv.FormatInt(n, 10) == s {
			return I64(n), nil
		}
	case TypeU64:
		if n, err := strconv.ParseUint(s, 10, 64); err == nil && strconv.FormatUint(n, 10) == s {
			return U64(n), nil
		}
	case TypeF64:
		num := scanner{src: []byte(s)}
		if raw, err := num.number(); err == nil && len(raw) == len(s) {
			if f, ok := parseFloat(raw); ok {
				return F64(f), nil
			}
		}
	case TypeBool:
		if s == "true" || s == "false" {
			return Bool(s == "true"), nil
		}
	case TypeBytes:
		if b, err := strictBase64.DecodeString(s); err == nil && strictBase64.EncodeToString(b) == s {
			return Bytes(b), nil
		}
	}
	return Value{}, fault.New(fault.TypeMismatch, "%q is not a key of table %s: column %q is %s, %s", clip(s, maxQuoted), t.ID, c.Name, c.Type, pkForm(c.Type)).With("column", c.Name)
}

// ParseTuple reads a primary key as FormatPK gives it: of one column as ParsePK reads
// it, of several the text of a JSON array with an element for each. Faults:
// type_mismatch.
func (t *Table) ParseTuple(s string) ([]Value, error) {
	if len(t.PK) == 1 {
		v, err := t.ParsePK(s)
		return []Value{v}, err
	}
	var elements []json.RawMessage
	if !utf8.ValidString(s) || json.Unmarshal([]byte(s), &elements) != nil || len(elements) != len(t.PK) {
		return nil, fault.New(fault.TypeMismatch, "%q is not a key of table %s: it is a JSON array of %d elements, in the order of the primary key", clip(s, maxQuoted), t.ID, len(t.PK))
	}
	out := make([]Value, len(t.PK))
	for i, c := range t.PK {
		text := string(elements[i])
		if quoted := text[0] == '"'; quoted != (t.Columns[c].Type == TypeStr || t.Columns[c].Type == TypeBytes) {
			return nil, fault.New(fault.TypeMismatch, "%s is not a key of table %s: column %q is %s", clip(s, maxQuoted), t.ID, t.Columns[c].Name, t.Columns[c].Type).With("column", t.Columns[c].Name)
		} else if quoted {
			if err := json.Unmarshal(elements[i], &text); err != nil {
				return nil, err
			}
		}
		alone := *t
		alone.PK = []int{c}
		v, err := alone.ParsePK(text)
		if err != nil {
			return nil, err
		}
		out[i] = v
	}
	return out, nil
}

// pkForm says how a key of type t is written in a path.
func pkForm(t Type) string {
	switch t {
	case TypeI64, TypeU64:
		return "a whole number in its range, in decimal without leading zeros"
	case TypeF64:
		return "a finite number written as in JSON"
	case TypeBool:
		return "true or false"
	case TypeBytes:
		return "standard base64 with padding"
	default:
		return "valid UTF-8"
	}
}

// FormatPK is the primary key as answers give it, always a string: of one column
// as ParsePK reads it, of several the text of a JSON array.
func FormatPK(values []Value) string {
	if len(values) == 1 {
		return values[0].String()
	}
	out := []byte{'['}
	for i, v := range values {
		if i > 0 {
			out = append(out, ',')
		}
		out = AppendValueJSON(out, v)
	}
	return string(append(out, ']'))
}
