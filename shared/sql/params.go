package sql

import (
	"bytes"
	"encoding/json"
	"sort"
	"strconv"
	"strings"

	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/types"
	"github.com/shopspring/decimal"

	"originchain/shared/fault"
)

// maxParams bounds the parameters of one statement.
const maxParams = 65_535

// bindParams joins a statement's parameters with the values of a request. The
// result is by the planner's names; nil when the statement has none.
func bindParams(l *lexed, raw json.RawMessage) (map[string]gms.Expression, error) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || string(raw) == "null" {
		if len(l.names) > 0 {
			return nil, fault.New(fault.ValidationFailed, "the statement has %d parameters and the request has no params; missing: %s", len(l.names), listNames(l))
		}
		return nil, nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	switch raw[0] {
	case '[':
		var values []any
		if err := dec.Decode(&values); err != nil {
			return nil, errEnvelope()
		}
		return bindPositional(l, values)
	case '{':
		var values map[string]any
		if err := dec.Decode(&values); err != nil {
			return nil, errEnvelope()
		}
		return bindNamed(l, values)
	}
	return nil, errEnvelope()
}

func errEnvelope() error {
	return fault.New(fault.InvalidEnvelope, "params must be an array for ? and $1 parameters, or an object for :name parameters").With("field", "params")
}

func bindPositional(l *lexed, values []any) (map[string]gms.Expression, error) {
	if l.style == styleNamed {
		return nil, fault.New(fault.ValidationFailed, "the statement has named parameters (%s); send params as an object", listNames(l))
	}
	highest := 0
	used := make([]bool, len(values))
	for _, name := range l.names {
		n, _ := strconv.Atoi(name) // the lexer wrote it
		highest = max(highest, n)
		if n <= len(values) {
			used[n-1] = true
		}
	}
	if highest > len(values) {
		return nil, fault.New(fault.ValidationFailed, "the statement uses parameter %d and params has %d values", highest, len(values))
	}
	for i := range used {
		if !used[i] {
			return nil, fault.New(fault.ValidationFailed, "params has %d values and the statement does not use number %d; leave it out or use it", len(values), i+1)
		}
	}
	out := make(map[string]gms.Expression, len(l.names))
	for i, name := range l.names {
		n, _ := strconv.Atoi(name)
		e, err := literal(values[n-1], name)
		if err != nil {
			return nil, err
		}
		out[bindName(i+1)] = e
	}
	return out, nil
}

func bindNamed(l *lexed, values map[string]any) (map[string]gms.Expression, error) {
	if len(l.names) > 0 && l.style != styleNamed {
		return nil, fault.New(fault.ValidationFailed, "the statement has %s parameters; send params as an array", l.style)
	}
	out := make(map[string]gms.Expression, len(l.names))
	used := make(map[string]bool, len(l.names))
	for i, name := range l.names {
		v, ok := values[name]
		if !ok {
			return nil, fault.New(fault.ValidationFailed, "the statement uses parameter :%s and params does not have it", name)
		}
		e, err := literal(v, name)
		if err != nil {
			return nil, err
		}
		out[bindName(i+1)] = e
		used[name] = true
	}
	var unused []string
	for name := range values {
		if !used[name] {
			unused = append(unused, name)
		}
	}
	if len(unused) > 0 {
		sort.Strings(unused)
		return nil, fault.New(fault.ValidationFailed, "params has values the statement does not use: %s; leave them out", strings.Join(unused, ", "))
	}
	return out, nil
}

// listNames lists the parameters for a message; those written ? by their number.
func listNames(l *lexed) string {
	if l.style == styleQuestion {
		return strings.Join(l.names, ", ")
	}
	return strings.Join(l.written(), ", ")
}

// written are the parameters as the statement wrote them.
func (l *lexed) written() []string {
	out := make([]string, len(l.names))
	for i, n := range l.names {
		switch l.style {
		case styleNamed:
			out[i] = ":" + n
		case styleDollar:
			out[i] = "$" + n
		default:
			out[i] = "?"
		}
	}
	return out
}

// literal turns one JSON value into the literal that stands for it.
func literal(v any, name string) (gms.Expression, error) {
	switch v := v.(type) {
	case nil:
		return expression.NewLiteral(nil, types.Null), nil
	case bool:
		return expression.NewLiteral(v, types.Boolean), nil
	case string:
		return expression.NewLiteral(v, strType), nil
	case json.Number:
		return number(string(v), name)
	}
	return nil, fault.New(fault.ValidationFailed, "parameter %s is an array or an object; a parameter is one number, string, boolean or null", name)
}

// number makes the literal of a JSON number: an integer where it fits one, an
// exact decimal where it has a fraction, a float where it has an exponent.
func number(s, name string) (gms.Expression, error) {
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		return expression.NewLiteral(i, types.Int64), nil
	}
	if u, err := strconv.ParseUint(s, 10, 64); err == nil {
		return expression.NewLiteral(u, types.Uint64), nil
	}
	if !strings.ContainsAny(s, "eE") && len(s) <= maxDecimalDigits {
		precision, scale := expression.GetDecimalPrecisionAndScale(s)
		if t, err := types.CreateDecimalType(precision, scale); err == nil {
			if d, err := decimal.NewFromString(s); err == nil {
				return expression.NewLiteral(d, t), nil
			}
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return nil, fault.New(fault.ValidationFailed, "parameter %s is a number too large to hold", name)
	}
	return expression.NewLiteral(f, types.Float64), nil
}

// maxDecimalDigits is what an exact decimal of the planner holds, with its point
// and sign.
const maxDecimalDigits = types.DecimalTypeMaxPrecision + 2
