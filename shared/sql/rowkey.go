package sql

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/shopspring/decimal"
)

// rowKeys makes keys of rows: two rows have the same key when GROUP BY and
// DISTINCT take them for the same. The planner hashes the printed row to 64 bits
// instead, which takes NULL and the text '<nil>' for one, and cannot read bytes.
type rowKeys struct {
	columns []gms.Type // nil where the type says nothing more than the value
	buf     []byte
}

// longKey is from where on a key is kept as its digest: a set of long keys would
// otherwise hold the rows themselves. No shorter key has a digest's length.
const longKey = sha256.Size

// keysOf makes the keys of rows of a schema.
func keysOf(columns gms.Schema) rowKeys {
	k := rowKeys{columns: make([]gms.Type, len(columns))}
	for i, c := range columns {
		k.columns[i] = c.Type
	}
	return k
}

// keysOfExpressions makes the keys of rows of the values of expressions.
func keysOfExpressions(exprs []gms.Expression) rowKeys {
	k := rowKeys{columns: make([]gms.Type, len(exprs))}
	for i, e := range exprs {
		k.columns[i] = e.Type()
	}
	return k
}

// key is the key of a row. NULL is a value like any other.
func (k *rowKeys) key(ctx *gms.Context, row gms.Row) (string, error) {
	k.buf = k.buf[:0]
	for i, v := range row {
		v, err := gms.UnwrapAny(ctx, v)
		if err != nil {
			return "", err
		}
		if v == nil {
			k.buf = append(k.buf, 0)
			continue
		}
		var t gms.Type
		if i < len(k.columns) {
			t = k.columns[i]
		}
		// A tag keeps NULL apart from the empty text, and the length in front of a
		// value its end apart from the beginning of the next.
		k.buf = append(k.buf, 1, 0, 0, 0, 0)
		start := len(k.buf)
		if k.buf, err = appendKeyText(k.buf, v, t); err != nil {
			return "", err
		}
		binary.BigEndian.PutUint32(k.buf[start-4:], uint32(len(k.buf)-start))
	}
	if len(k.buf) < longKey {
		return string(k.buf), nil
	}
	sum := sha256.Sum256(k.buf)
	return string(sum[:]), nil
}

// appendKeyText appends what equal values of a column have in common. Numbers of
// different Go types are equal when they are the same number.
func appendKeyText(dst []byte, v any, t gms.Type) ([]byte, error) {
	switch v := v.(type) {
	case string:
		return appendCollated(dst, v, t)
	case []byte:
		return append(dst, v...), nil
	case bool:
		if v {
			return append(dst, '1'), nil
		}
		return append(dst, '0'), nil
	case float64:
		return appendFloat(dst, v+0, 64), nil // + 0 makes of -0 what it equals
	case float32:
		return appendFloat(dst, float64(v)+0, 64), nil
	case decimal.Decimal:
		return append(dst, v.String()...), nil
	case gms.JSONWrapper:
		b, err := jsonText(v)
		return append(dst, b...), err
	}
	if i, ok := asI64(v); ok {
		return strconv.AppendInt(dst, i, 10), nil
	}
	if u, ok := asU64(v); ok {
		return strconv.AppendUint(dst, u, 10), nil
	}
	return fmt.Append(dst, v), nil
}

// appendCollated appends what texts that are equal in the column's collation
// have in common. Text of a table compares by its bytes.
func appendCollated(dst []byte, s string, t gms.Type) ([]byte, error) {
	text, ok := t.(gms.StringType)
	if !ok {
		return append(dst, s...), nil
	}
	c := text.Collation()
	if c == gms.Collation_Default || c == gms.Collation_binary || strings.HasSuffix(c.Name(), "_bin") {
		return append(dst, s...), nil
	}
	b := bytes.NewBuffer(dst)
	err := c.WriteWeightString(b, s)
	return b.Bytes(), err
}

// keySet is a set of keys that counts against the statement's memory.
type keySet struct {
	st   *statement
	keys map[string]struct{}
	held int
}

func newKeySet(ctx *gms.Context) *keySet {
	return &keySet{st: statementOf(ctx), keys: map[string]struct{}{}}
}

// keyWeight is about what a key takes in a hash table besides its bytes: its
// header, twice, since tables grow by doubling, and its allocation.
const keyWeight = 64

// add says whether the key was not there yet.
func (s *keySet) add(key string) (bool, error) {
	if _, ok := s.keys[key]; ok {
		return false, nil
	}
	s.keys[key] = struct{}{}
	n := len(key) + keyWeight
	s.held += n
	return true, s.st.hold(n)
}

// release gives the memory back.
func (s *keySet) release() {
	s.st.release(s.held)
	s.held, s.keys = 0, map[string]struct{}{}
}
