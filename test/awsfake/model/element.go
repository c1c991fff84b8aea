package model

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// element is a node of XML, or of the parameters of a query: Name.member.1=….
type element struct {
	name, space string
	text        string
	children    []*element
}

// maxDepth bounds how deep elements may nest.
const maxDepth = 32

func decodeXML(body []byte) (*element, error) {
	d := xml.NewDecoder(bytes.NewReader(body))
	root := &element{}
	stack := []*element{root}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		top := stack[len(stack)-1]
		switch t := token.(type) {
		case xml.StartElement:
			e := &element{name: t.Name.Local, space: t.Name.Space}
			for _, a := range t.Attr {
				if a.Name.Local != "xmlns" {
					return nil, fmt.Errorf("<%s> has the attribute %q", e.name, a.Name.Local)
				}
			}
			if len(stack) > maxDepth {
				return nil, errors.New("elements nest too deep")
			}
			top.children = append(top.children, e)
			stack = append(stack, e)
		case xml.EndElement:
			stack = stack[:len(stack)-1]
		case xml.CharData:
			top.text += string(t)
		}
	}
	if len(root.children) != 1 {
		return nil, fmt.Errorf("%d elements, want one", len(root.children))
	}
	return root.children[0], nil
}

// decodeQuery makes a tree of names like A.member.1.B.
func decodeQuery(form url.Values) (*element, error) {
	root := &element{}
	for _, name := range slices.Sorted(maps.Keys(form)) {
		if len(form[name]) != 1 {
			return nil, fmt.Errorf("%s comes %d times", name, len(form[name]))
		}
		at := root
		parts := strings.Split(name, ".")
		if len(parts) > maxDepth {
			return nil, errors.New("names nest too deep")
		}
		for _, part := range parts {
			at = at.child(part)
		}
		at.text = form[name][0]
	}
	return root, nil
}

func (e *element) child(name string) *element {
	for _, c := range e.children {
		if c.name == name {
			return c
		}
	}
	c := &element{name: name}
	e.children = append(e.children, c)
	return c
}

// numbered are the children 1 to n of a list in a query.
func (e *element) numbered() ([]*element, error) {
	list := make([]*element, len(e.children))
	for _, c := range e.children {
		n, err := strconv.Atoi(c.name)
		if err != nil || n < 1 || n > len(list) || list[n-1] != nil || strconv.Itoa(n) != c.name {
			return nil, fmt.Errorf("%q is not among the numbers 1 to %d, once each", c.name, len(list))
		}
		list[n-1] = c
	}
	return list, nil
}

// elements reads XML or a query by a shape.
type elements struct {
	*found
	query bool
}

func (x elements) take(path string, ref Reference, e *element) (any, bool) {
	shape := x.service.Shapes[ref.Shape]
	if shape == nil {
		x.add(path, "the model has no shape %q", ref.Shape)
		return nil, false
	}
	switch shape.Type {
	case "structure":
		return x.takeStruct(path, shape, e, nil), true
	case "list":
		return x.takeList(path, ref, shape, e)
	case "map":
		return x.takeMap(path, ref, shape, e)
	}
	if len(e.children) > 0 {
		x.add(path, "%s is a %s, and this has elements", shape.Name, shape.Type)
		return nil, false
	}
	v, ok := parseText(shape.Type, e.text)
	if !ok {
		x.add(path, "%s is a %s, and this is %q", shape.Name, shape.Type, e.text)
	}
	return v, ok
}

// takeStruct reads members by the names that they have on the wire; those that are bound
// elsewhere, to the path or the query, are not among them.
func (x elements) takeStruct(path string, shape *Shape, e *element, elsewhere map[string]bool) Struct {
	out := Struct{}
	if !x.query && strings.TrimSpace(e.text) != "" {
		x.add(path, "there is text between the elements: %q", strings.TrimSpace(e.text))
	}
	for _, c := range e.children {
		name, member, ok := x.member(shape, c.name)
		switch {
		case !ok || elsewhere[name]:
			x.add(path+"."+c.name, "%s has no such element", shape.Name)
		case out[name] != nil && !x.flat(member):
			x.add(path+"."+c.name, "it is there twice")
		default:
			v, ok := x.take(path+"."+name, member, c)
			if !ok {
				break
			}
			if before, _ := out[name].([]any); before != nil { // a flattened list goes on
				v = append(before, v.([]any)...)
			}
			out[name] = v
		}
	}
	return out
}

func (x elements) flat(ref Reference) bool {
	shape := x.service.Shapes[ref.Shape]
	return !x.query && shape.Type == "list" && (ref.Flattened || shape.Flattened)
}

func (x elements) member(shape *Shape, wire string) (string, Reference, bool) {
	for name, m := range shape.Members {
		on := name
		if m.LocationName != "" {
			on = m.LocationName
		}
		if on == wire {
			return name, m, true
		}
	}
	return "", Reference{}, false
}

// itemName is what the items of a list are called on the wire.
func itemName(shape *Shape) string {
	if shape.Member.LocationName != "" {
		return shape.Member.LocationName
	}
	return "member"
}

func (x elements) takeList(path string, ref Reference, shape *Shape, e *element) (any, bool) {
	items := e.children
	switch {
	case x.flat(ref):
		items = []*element{e}
	case x.query:
		at := e
		if !ref.Flattened && !shape.Flattened {
			if len(e.children) != 1 || e.children[0].name != itemName(shape) {
				x.add(path, "a list has names of the form .%s.1", itemName(shape))
				return nil, false
			}
			at = e.children[0]
		}
		var err error
		if items, err = at.numbered(); err != nil {
			x.add(path, "%v", err)
			return nil, false
		}
	}
	list := make([]any, 0, len(items))
	for i, item := range items {
		at := path + "[" + strconv.Itoa(i) + "]"
		if !x.query && !x.flat(ref) && item.name != itemName(shape) {
			x.add(at, "<%s> in a list of <%s>", item.name, itemName(shape))
			continue
		}
		if v, ok := x.take(at, *shape.Member, item); ok {
			list = append(list, v)
		}
	}
	return list, true
}

// takeMap reads the maps of a query: Name.entry.1.key and .value.
func (x elements) takeMap(path string, ref Reference, shape *Shape, e *element) (any, bool) {
	if !x.query {
		x.add(path, "maps in XML are not read: no operation that is answered has one")
		return nil, false
	}
	at := e
	if !ref.Flattened && !shape.Flattened {
		at = e.child("entry")
	}
	entries, err := at.numbered()
	if err != nil {
		x.add(path, "%v", err)
		return nil, false
	}
	named := func(r *Reference, name string) string {
		if r.LocationName != "" {
			return r.LocationName
		}
		return name
	}
	out := Struct{}
	for i, entry := range entries {
		where := path + " entry " + strconv.Itoa(i+1)
		key, value := entry.child(named(shape.Key, "key")), entry.child(named(shape.Value, "value"))
		if len(entry.children) != 2 {
			x.add(where, "an entry is a key and a value")
			continue
		}
		if v, ok := x.take(where, *shape.Value, value); ok {
			out[key.text] = v
		}
	}
	return out, true
}

// parseText reads a scalar of XML, of a query, of a path or a header.
func parseText(kind, text string) (any, bool) {
	switch kind {
	case "string", "character":
		return text, true
	case "integer", "long":
		bits := 64
		if kind == "integer" {
			bits = 32
		}
		n, err := strconv.ParseInt(text, 10, bits)
		return n, err == nil
	case "float", "double":
		n, err := strconv.ParseFloat(text, 64)
		return n, err == nil
	case "boolean":
		return text == "true", text == "true" || text == "false"
	case "timestamp":
		t, err := time.Parse(time.RFC3339Nano, text)
		return t, err == nil
	case "blob":
		b, err := base64.StdEncoding.DecodeString(text)
		return b, err == nil
	}
	return nil, false
}

func formatText(value any) string {
	switch v := value.(type) {
	case time.Time:
		return v.UTC().Format("2006-01-02T15:04:05.000Z")
	case []byte:
		return base64.StdEncoding.EncodeToString(v)
	}
	return fmt.Sprint(value)
}

// writeXML writes a value that was checked.
func (s *Service) writeXML(b *bytes.Buffer, name string, ref Reference, value any) {
	shape := s.Shapes[ref.Shape]
	open := func() { b.WriteString("<" + name + ">") }
	end := func() { b.WriteString("</" + name + ">") }
	switch v := value.(type) {
	case Struct:
		open()
		s.writeMembers(b, shape, v)
		end()
	case []any:
		if ref.Flattened || shape.Flattened {
			for _, item := range v {
				s.writeXML(b, name, *shape.Member, item)
			}
			return
		}
		open()
		for _, item := range v {
			s.writeXML(b, itemName(shape), *shape.Member, item)
		}
		end()
	default:
		open()
		_ = xml.EscapeText(b, []byte(formatText(value))) // a buffer takes everything
		end()
	}
}

func (s *Service) writeMembers(b *bytes.Buffer, shape *Shape, v Struct) {
	for _, name := range slices.Sorted(maps.Keys(v)) {
		m := shape.Members[name]
		if m.Location != "" {
			continue
		}
		on := name
		if m.LocationName != "" {
			on = m.LocationName
		}
		s.writeXML(b, on, m, v[name])
	}
}
