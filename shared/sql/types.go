package sql

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"
	"github.com/shopspring/decimal"

	"originchain/shared/fault"
	"originchain/shared/schema"
)

// strType is the planner's type of a str column: text that compares by its bytes.
var strType gms.Type = types.CreateLongText(gms.Collation_utf8mb4_0900_bin)

// plannerType is the planner's type of a column.
func plannerType(t schema.Type) gms.Type {
	switch t {
	case schema.TypeStr:
		return strType
	case schema.TypeI64:
		return types.Int64
	case schema.TypeU64:
		return types.Uint64
	case schema.TypeF64:
		return types.Float64
	case schema.TypeBool:
		return types.Boolean
	case schema.TypeBytes:
		return types.LongBlob
	}
	return types.Null
}

// toPlanner is a stored value as the planner computes with it.
func toPlanner(v schema.Value) any {
	switch v.Type() {
	case schema.TypeStr:
		return v.AsStr()
	case schema.TypeI64:
		return v.AsI64()
	case schema.TypeU64:
		return v.AsU64()
	case schema.TypeF64:
		return v.AsF64()
	case schema.TypeBool:
		if v.AsBool() {
			return int8(1)
		}
		return int8(0)
	case schema.TypeBytes:
		return v.AsBytes()
	}
	return nil
}

// fromPlanner turns a computed value into a value of a column. Nothing is
// rounded, cut or guessed: a value that the column's type does not hold exactly
// is type_mismatch. Text is accepted for a number it spells.
func fromPlanner(v any, col *schema.Column) (schema.Value, error) {
	if v == nil {
		return schema.Null(), nil
	}
	var out schema.Value
	var ok bool
	switch col.Type {
	case schema.TypeI64:
		var i int64
		i, ok = asI64(v)
		out = schema.I64(i)
	case schema.TypeU64:
		var u uint64
		u, ok = asU64(v)
		out = schema.U64(u)
	case schema.TypeF64:
		var f float64
		f, ok = asF64(v)
		ok = ok && !math.IsNaN(f) && !math.IsInf(f, 0)
		out = schema.F64(f)
	case schema.TypeBool:
		var b bool
		b, ok = asBool(v)
		out = schema.Bool(b)
	case schema.TypeStr:
		var s string
		s, ok = asStr(v)
		out = schema.Str(s)
	case schema.TypeBytes:
		var b []byte
		b, ok = asBytes(v)
		out = schema.Bytes(b)
	}
	if !ok {
		return schema.Value{}, errMismatch(v, col)
	}
	return out, nil
}

func errMismatch(v any, col *schema.Column) error {
	hint := ""
	switch col.Type {
	case schema.TypeStr:
		hint = "; use CAST(… AS CHAR)"
	case schema.TypeI64, schema.TypeU64:
		if isFraction(v) {
			hint = "; use ROUND or FLOOR"
		}
	}
	return fault.New(fault.TypeMismatch, "column %q is %s and cannot hold %s%s", col.Name, col.Type, describe(v), hint).With("column", col.Name)
}

func isFraction(v any) bool {
	switch v.(type) {
	case float32, float64, decimal.Decimal:
		return true
	}
	return false
}

// describe names a value for an error message. Values of rows stay out of
// messages beyond a short number: messages are logged.
func describe(v any) string {
	switch v := v.(type) {
	case string:
		return "this text"
	case []byte:
		return "these bytes"
	case float64:
		return "the number " + strconv.FormatFloat(v, 'g', -1, 64)
	case decimal.Decimal:
		return "the number " + v.String()
	case time.Time:
		return "a date"
	case bool:
		return "a boolean"
	}
	if i, ok := asI64(v); ok {
		return "the number " + strconv.FormatInt(i, 10)
	}
	if u, ok := asU64(v); ok {
		return "the number " + strconv.FormatUint(u, 10)
	}
	return fmt.Sprintf("a value of type %T", v)
}

// asDecimal reads any number, or text that spells one, exactly.
func asDecimal(v any) (decimal.Decimal, bool) {
	switch v := v.(type) {
	case decimal.Decimal:
		return v, true
	case string:
		return textNumber(v)
	case []byte:
		return textNumber(string(v))
	}
	return decimal.Decimal{}, false
}

// maxNumberText bounds text that is read as a number.
const maxNumberText = 64

func textNumber(s string) (decimal.Decimal, bool) {
	if s == "" || len(s) > maxNumberText {
		return decimal.Decimal{}, false
	}
	d, err := decimal.NewFromString(s)
	if err != nil || d.Exponent() > maxNumberText || d.Exponent() < -maxNumberText {
		return decimal.Decimal{}, false
	}
	return d, true
}

func asI64(v any) (int64, bool) {
	switch v := v.(type) {
	case int64:
		return v, true
	case int8:
		return int64(v), true
	case int16:
		return int64(v), true
	case int32:
		return int64(v), true
	case int:
		return int64(v), true
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	case float32:
		return asI64(float64(v))
	case float64:
		// The bounds are exact floats; the upper one is already too large.
		if v != math.Trunc(v) || v < math.MinInt64 || v >= -math.MinInt64 {
			return 0, false
		}
		return int64(v), true
	case uint8, uint16, uint32, uint64, uint:
		u, _ := asU64(v)
		return int64(u), u <= math.MaxInt64
	}
	d, ok := asDecimal(v)
	if !ok || !d.IsInteger() || !d.BigInt().IsInt64() {
		return 0, false
	}
	return d.BigInt().Int64(), true
}

func asU64(v any) (uint64, bool) {
	switch v := v.(type) {
	case uint64:
		return v, true
	case uint8:
		return uint64(v), true
	case uint16:
		return uint64(v), true
	case uint32:
		return uint64(v), true
	case uint:
		return uint64(v), true
	case int8, int16, int32, int64, int, bool:
		i, _ := asI64(v)
		return uint64(i), i >= 0
	case float32:
		return asU64(float64(v))
	case float64:
		if v != math.Trunc(v) || v < 0 || v >= 1<<64 {
			return 0, false
		}
		return uint64(v), true
	}
	d, ok := asDecimal(v)
	if !ok || !d.IsInteger() || !d.BigInt().IsUint64() {
		return 0, false
	}
	return d.BigInt().Uint64(), true
}

func asF64(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case float32:
		return float64(v), true
	case bool:
		return 0, false
	case string:
		return textFloat(v)
	case []byte:
		return textFloat(string(v))
	case decimal.Decimal:
		f, _ := v.Float64()
		return f, true
	}
	if i, ok := asI64(v); ok {
		return float64(i), true
	}
	u, ok := asU64(v)
	return float64(u), ok
}

func textFloat(s string) (float64, bool) {
	if _, ok := textNumber(s); !ok {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil
}

func asBool(v any) (value, ok bool) {
	switch v.(type) {
	case string, []byte:
		return false, false
	}
	i, ok := asI64(v)
	return i == 1, ok && (i == 0 || i == 1)
}

func asStr(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, utf8.ValidString(v)
	case []byte:
		return string(v), utf8.Valid(v)
	case time.Time:
		return formatTime(v), true
	case types.Timespan:
		return v.String(), true
	case gms.JSONWrapper:
		b, err := jsonText(v)
		return string(b), err == nil
	}
	return "", false
}

func asBytes(v any) ([]byte, bool) {
	switch v := v.(type) {
	case []byte:
		return bytes.Clone(v), true
	case string:
		return []byte(v), true
	}
	return nil, false
}

// formatTime is a moment as SQL writes it, its fraction only where it has one.
func formatTime(t time.Time) string {
	if t.Nanosecond() == 0 {
		return t.Format(time.DateTime)
	}
	return t.Format("2006-01-02 15:04:05.000000")
}
