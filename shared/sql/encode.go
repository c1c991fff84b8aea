package sql

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"
	querypb "github.com/dolthub/vitess/go/vt/proto/query"
	"github.com/shopspring/decimal"

	"originchain/shared/fault"
)

// rowEncoder writes rows as JSON objects while they are read, so that an answer
// is held once, as it goes out, and its size is known at every row.
type rowEncoder struct {
	names []string
	heads [][]byte // per column, what stands before its value
	kinds []valueKind
	scale []int32 // of decimals
	limit int
	out   []byte
	count int
}

// valueKind is how the values of a column are written.
type valueKind uint8

const (
	kindPlain valueKind = iota
	kindBool
	kindBinary
	kindDate
	kindDecimal
)

func newRowEncoder(schema gms.Schema, limit int) *rowEncoder {
	e := &rowEncoder{limit: limit, names: uniqueNames(schema), kinds: make([]valueKind, len(schema)), scale: make([]int32, len(schema))}
	for i, name := range e.names {
		head := []byte{','}
		if i == 0 {
			head = []byte{'{'}
		}
		e.heads = append(e.heads, append(appendString(head, name), ':'))
		e.kinds[i] = kindOf(schema[i].Type)
		if t, ok := schema[i].Type.(gms.DecimalType); ok {
			e.scale[i] = int32(t.Scale())
		}
	}
	return e
}

// uniqueNames are the names of the columns; one that repeats gets a number, as
// an object cannot have a name twice.
func uniqueNames(schema gms.Schema) []string {
	names := make([]string, len(schema))
	seen := make(map[string]bool, len(schema))
	for _, c := range schema {
		seen[c.Name] = false
	}
	for i, c := range schema {
		name := c.Name
		for n := 2; seen[name]; n++ {
			name = c.Name + "_" + strconv.Itoa(n)
			if _, taken := seen[name]; !taken {
				break
			}
		}
		seen[name] = true
		names[i] = name
	}
	return names
}

func kindOf(t gms.Type) valueKind {
	switch {
	case isBoolean(t):
		return kindBool
	case types.IsBinaryType(t):
		return kindBinary
	case types.IsDecimal(t):
		return kindDecimal
	case t != nil && t.Type() == querypb.Type_DATE:
		return kindDate
	}
	return kindPlain
}

// isBoolean tells the planner's BOOLEAN, a TINYINT that is shown one digit wide.
func isBoolean(t gms.Type) bool {
	n, ok := t.(gms.NumberType)
	return ok && n.Type() == querypb.Type_INT8 && n.DisplayWidth() == 1
}

// append writes one row.
func (e *rowEncoder) append(row gms.Row) error {
	if e.count > 0 {
		e.out = append(e.out, ',')
	}
	if len(row) == 0 {
		e.out = append(e.out, '{')
	}
	var err error
	for i, v := range row {
		e.out = append(e.out, e.heads[i]...)
		if e.out, err = e.value(e.out, v, i); err != nil {
			return err
		}
	}
	e.out = append(e.out, '}')
	e.count++
	if len(e.out) > e.limit {
		return fault.New(fault.BodyTooLarge, "the answer has more than %d bytes after %d rows; add LIMIT, or select fewer columns", e.limit, e.count)
	}
	return nil
}

func (e *rowEncoder) value(dst []byte, v any, col int) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...), nil
	case string:
		if e.kinds[col] == kindBinary {
			return appendBase64(dst, []byte(v)), nil
		}
		return appendString(dst, v), nil
	case []byte:
		if e.kinds[col] == kindBinary {
			return appendBase64(dst, v), nil
		}
		return appendString(dst, string(v)), nil
	case bool:
		return strconv.AppendBool(dst, v), nil
	case float64:
		return appendFloat(dst, v, 64), nil
	case float32:
		return appendFloat(dst, float64(v), 32), nil
	case decimal.Decimal:
		if e.kinds[col] == kindDecimal {
			v = v.Round(e.scale[col])
		}
		return append(dst, v.String()...), nil
	case time.Time:
		if e.kinds[col] == kindDate {
			return appendString(dst, v.Format(time.DateOnly)), nil
		}
		return appendString(dst, formatTime(v)), nil
	case types.Timespan:
		return appendString(dst, v.String()), nil
	case gms.JSONWrapper:
		b, err := jsonText(v)
		return append(dst, b...), err
	case gms.AnyWrapper:
		plain, err := v.UnwrapAny(context.Background())
		if err != nil {
			return nil, err
		}
		return e.value(dst, plain, col)
	}
	return e.integer(dst, v, col)
}

func (e *rowEncoder) integer(dst []byte, v any, col int) ([]byte, error) {
	if i, ok := asI64(v); ok {
		if e.kinds[col] == kindBool && (i == 0 || i == 1) {
			return strconv.AppendBool(dst, i == 1), nil
		}
		return strconv.AppendInt(dst, i, 10), nil
	}
	if u, ok := asU64(v); ok {
		return strconv.AppendUint(dst, u, 10), nil
	}
	return nil, fault.New(fault.Unsupported, "column %q has values of a type that cannot be sent (%T); convert them, for example with CAST or HEX", e.names[col], v)
}

// jsonText is a JSON value as it is sent: as JSON, not as text that holds it.
func jsonText(v gms.JSONWrapper) ([]byte, error) {
	plain, err := v.ToInterface()
	if err != nil {
		return nil, err
	}
	return json.Marshal(plain)
}

// appendFloat writes the shortest number that reads back as f. JSON has no
// infinity and no NaN; they are null, as the result of a division by zero is.
func appendFloat(dst []byte, f float64, bits int) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(dst, "null"...)
	}
	format := byte('f')
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, f, format, -1, bits)
}

func appendBase64(dst, b []byte) []byte {
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, b)
	return append(dst, '"')
}

const hexDigits = "0123456789abcdef"

// appendString writes a JSON string. What is not valid UTF-8 becomes U+FFFD.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r != utf8.RuneError || size != 1 {
				i += size
				continue
			}
			dst = append(dst, s[start:i]...)
			dst = append(dst, "\ufffd"...)
		} else {
			dst = append(dst, s[start:i]...)
			dst = appendEscape(dst, c)
		}
		i++
		start = i
	}
	return append(append(dst, s[start:]...), '"')
}

func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}
