package schema

import (
	"strconv"
	"strings"

	"originchain/shared/fault"
)

// rootValue reads the value of a key that extractions read. A str column takes a
// text, which must be JSON, or an object or array, which is kept as its text; of
// an undeclared root only what is extracted is kept.
func (d *rowDecoder) rootValue(r int) error {
	root := &d.t.json.roots[r]
	c := d.s.space()
	if root.declared && c != '{' && c != '[' {
		v, err := d.value(&d.s, &d.t.Columns[root.field], nil)
		d.row[root.field] = v
		return err
	}
	from := d.s.at
	if err := d.s.skip(1); err != nil {
		return err
	}
	raw := d.s.src[from:d.s.at]
	if root.declared {
		start := len(d.text)
		d.text = append(d.text, raw...)
		d.row[root.field] = d.waiting(start, TypeStr)
		return nil
	}
	if d.undeclared == nil {
		d.undeclared = make([][]byte, len(d.t.json.roots))
	}
	d.undeclared[r] = raw
	return nil
}

// extract fills the extractions from their roots.
func (d *rowDecoder) extract() error {
	for r := range d.t.json.roots {
		root := &d.t.json.roots[r]
		var doc []byte
		switch {
		case root.declared:
			if v := d.row[root.field]; v.t == TypeStr {
				doc = d.content(v)
				if err := d.checkDocument(doc, &d.t.Columns[root.field]); err != nil {
					return err
				}
			}
		case !d.given(root.field):
			continue // a row as it was read has no root: its columns stand as given
		default:
			doc = d.undeclared[r]
		}
		for _, i := range root.columns {
			if err := d.extractColumn(i, doc); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkDocument requires the text of a str column that extractions read to be
// JSON.
func (d *rowDecoder) checkDocument(doc []byte, c *Column) error {
	s := scanner{src: doc}
	err := s.skip(1)
	if err == nil {
		err = s.end()
	}
	if err != nil {
		return fault.New(fault.TypeMismatch, "the text for column %q of table %s is not JSON, and extractions read it: %s", c.Name, d.t.ID, fault.From(err).Message).With("column", c.Name)
	}
	return nil
}

// extractColumn reads column i at its path in doc, which is nil when the root is
// NULL.
func (d *rowDecoder) extractColumn(i int, doc []byte) error {
	c := &d.t.Columns[i]
	var v Value
	if doc != nil {
		s := scanner{src: doc}
		found, why := s.find(c.Path)
		if why != "" {
			return d.mismatch(c, c.Path, why)
		}
		if found {
			var err error
			if v, err = d.value(&s, c, c.Path); err != nil {
				return err
			}
		}
	}
	if d.given(i) && !d.same(d.row[i], v) {
		at := strings.Join(c.Path, ".")
		return fault.New(fault.ValidationFailed, "column %q of table %s is read from path %s, and the row gives another value for it; leave it out or make both the same", c.Name, d.t.ID, at).With("column", c.Name).With("path", at)
	}
	d.row[i] = v
	return nil
}

// same compares values that may be waiting for their text.
func (d *rowDecoder) same(a, b Value) bool {
	if a.t == b.t && (a.t == TypeStr || a.t == TypeBytes) {
		return string(d.content(a)) == string(d.content(b))
	}
	return a == b
}

// find moves to the value at path[1:] inside the checked document of path[0]. It
// is not found where a key is absent or a value on the way is null; why tells
// what on the way cannot have keys.
func (s *scanner) find(path []string) (found bool, why string) {
	for depth, key := range path[1:] {
		switch c := s.space(); {
		case c == '{':
			found = s.enterKey(key)
		case c == '[' && isIndex(key):
			found = s.enterElement(key)
		case c == 'n':
			found = false
		default:
			return false, "is not there: " + strings.Join(path[:depth+1], ".") + " has no keys"
		}
		if !found {
			return false, ""
		}
	}
	return true, ""
}

// enterKey moves to the value of a key. The document was checked, so errors
// cannot occur; one would read as not found.
func (s *scanner) enterKey(want string) bool {
	more := s.open('}')
	for more {
		key, err := s.key()
		if err != nil {
			return false
		}
		if string(key) == want {
			return true
		}
		if s.skip(0) != nil {
			return false
		}
		more, _ = s.next('}')
	}
	return false
}

func isIndex(key string) bool {
	n, err := strconv.ParseUint(key, 10, 31)
	return err == nil && strconv.FormatUint(n, 10) == key
}

// enterElement moves to an array's element by its index.
func (s *scanner) enterElement(key string) bool {
	want, err := strconv.Atoi(key)
	if err != nil {
		return false
	}
	more := s.open(']')
	for i := 0; more; i++ {
		if i == want {
			return true
		}
		if s.skip(0) != nil {
			return false
		}
		more, _ = s.next(']')
	}
	return false
}

// Derive computes the extractions of r that read str columns, in place, so that
// a row built elsewhere, as from SQL, holds what its JSON says. Extractions of
// undeclared roots have no source in a stored row and are left as they are.
// Faults: type_mismatch for a text that is not JSON or a value of another type.
func (t *Table) Derive(r Row) error {
	d := rowDecoder{t: t, row: r}
	for i := range t.json.roots {
		root := &t.json.roots[i]
		if !root.declared {
			continue
		}
		var doc []byte
		if v := r[root.field]; v.t == TypeStr {
			doc = []byte(v.s)
			if err := d.checkDocument(doc, &t.Columns[root.field]); err != nil {
				return err
			}
		}
		for _, c := range root.columns {
			if err := d.extractColumn(c, doc); err != nil {
				return err
			}
		}
	}
	d.bindText()
	return nil
}
