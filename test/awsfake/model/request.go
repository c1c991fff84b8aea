package model

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// protocol is how a service is spoken to.
type protocol string

const (
	jsonRPC   = "json"        // POST /, X-Amz-Target
	restJSON  = "rest-json"   // paths, JSON bodies
	restXML   = "rest-xml"    // paths, XML bodies
	query     = "query"       // POST / of a form, XML answers
	rpcV2CBOR = "rpc-v2-cbor" // POST /service/…/operation/…, CBOR
	ec2Query  = "ec2"         // query of EC2: its values are held, but not read off the wire
)

// maxBodyBytes bounds a body, compressed and not.
const maxBodyBytes = 8 << 20

// sqsTarget and cloudWatchService are names of the newer protocols, which Debian's models
// do not have.
const (
	sqsTarget         = "AmazonSQS"
	cloudWatchService = "GraniteServiceVersion20100801"
)

func (s *Service) speaks() (protocol, error) {
	p := s.Metadata.Protocol
	if changed, ok := changedProtocols()[s.Name]; ok {
		p = changed
		s.Metadata.TargetPrefix, s.Metadata.JSONVersion = sqsTarget, "1.0"
	}
	switch p {
	case jsonRPC, restJSON, restXML, query, rpcV2CBOR, ec2Query:
		return protocol(p), nil
	}
	return "", fmt.Errorf("the model of %s: the protocol %q is none that is known here", s.Name, p)
}

// Request is a request as the model has it.
type Request struct {
	Operation string
	Input     Struct
	// Compressed: its body came as gzip.
	Compressed bool
}

// Read takes a request apart, and says all that is wrong with it. Its Operation is "" if
// it is none of the service's.
func (s *Service) Read(r *http.Request, body []byte) (Request, []Violation) {
	f := &found{service: s}
	operation, rest := s.identify(f, r, body)
	f.operation = operation
	op := s.Operations[operation]
	if op == nil {
		f.add("request", "%s %s is no operation of the service", r.Method, r.URL)
		return Request{}, f.list
	}
	compressed := r.Header.Get("Content-Encoding") == "gzip"
	if compressed {
		plain, err := decompress(body, maxBodyBytes)
		if err != nil {
			f.add("request", "its body is no gzip: %v", err)
		}
		body = plain
	}
	input := s.input(f, op, rest, r, body)
	f.check("input", s.shape(op.Input), input)
	return Request{Operation: operation, Input: input, Compressed: compressed}, f.list
}

func decompress(b []byte, atMost int64) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(io.LimitReader(z, atMost+1))
	if int64(len(plain)) > atMost {
		return nil, fmt.Errorf("more than %d bytes", atMost)
	}
	return plain, errors.Join(err, z.Close())
}

// identify says which operation a request is for, and what its path carried.
func (s *Service) identify(f *found, r *http.Request, body []byte) (operation string, path map[string]string) {
	typed := func(want string) {
		got, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if err != nil || got != want {
			f.add("request", "its Content-Type is %q; %s has %s", r.Header.Get("Content-Type"), s.protocol, want)
		}
	}
	at := func(want string) {
		if r.Method != http.MethodPost || r.URL.Path != want || r.URL.RawQuery != "" {
			f.add("request", "%s %s; %s has POST %s", r.Method, r.URL, s.protocol, want)
		}
	}
	switch s.protocol {
	case jsonRPC:
		at("/")
		typed("application/x-amz-json-" + s.Metadata.JSONVersion)
		operation, _ = strings.CutPrefix(r.Header.Get("X-Amz-Target"), s.Metadata.TargetPrefix+".")
	case rpcV2CBOR:
		prefix := "/service/" + cloudWatchService + "/operation/"
		operation, _ = strings.CutPrefix(r.URL.Path, prefix)
		at(prefix + operation)
		typed("application/cbor")
		if r.Header.Get("Smithy-Protocol") != rpcV2CBOR || r.Header.Get("Accept") != "application/cbor" {
			f.add("request", "its headers do not say %s", rpcV2CBOR)
		}
	case query:
		at("/")
		typed("application/x-www-form-urlencoded")
		form, err := url.ParseQuery(string(body))
		if err != nil || form.Get("Version") != s.Metadata.APIVersion {
			f.add("request", "it is for the version %q of the service, not %s (%v)", form.Get("Version"), s.Metadata.APIVersion, err)
		}
		operation = form.Get("Action")
	case restJSON, restXML:
		for _, name := range slices.Sorted(maps.Keys(s.Operations)) {
			op := s.Operations[name]
			if params, ok := matchPath(op.HTTP.RequestURI, r.URL.EscapedPath()); ok && op.HTTP.Method == r.Method {
				return name, params
			}
		}
	}
	return operation, nil
}

// matchPath matches a path with /a/{Name}/b. A slash at the end, which Route 53 has in
// its older models and not in newer ones, does not count.
func matchPath(template, path string) (map[string]string, bool) {
	template, _, _ = strings.Cut(template, "?")
	want, got := strings.Split(strings.TrimSuffix(template, "/"), "/"), strings.Split(strings.TrimSuffix(path, "/"), "/")
	if len(want) != len(got) {
		return nil, false
	}
	params := map[string]string{}
	for i, w := range want {
		name, is := strings.CutPrefix(w, "{")
		if !is {
			if w != got[i] {
				return nil, false
			}
			continue
		}
		value, err := url.PathUnescape(got[i])
		if err != nil || value == "" {
			return nil, false
		}
		params[strings.TrimSuffix(name, "}")] = value
	}
	return params, true
}

// input reads what an operation is given.
func (s *Service) input(f *found, op *Operation, path map[string]string, r *http.Request, body []byte) Struct {
	shape := s.shape(op.Input)
	switch s.protocol {
	case jsonRPC, rpcV2CBOR:
		decode := decodeJSON
		if s.protocol == rpcV2CBOR {
			decode = decodeCBOR
		}
		if s.protocol == rpcV2CBOR && op.Input == nil && len(body) == 0 {
			return Struct{}
		}
		raw, err := decode(body)
		if err != nil {
			f.add("input", "it cannot be read: %v", err)
			return Struct{}
		}
		v, _ := f.take("input", shape, raw)
		in, _ := v.(Struct)
		return in
	case query:
		form, err := url.ParseQuery(string(body))
		form.Del("Action")
		form.Del("Version")
		var root *element
		if err == nil {
			root, err = decodeQuery(form)
		}
		if err != nil {
			f.add("input", "it cannot be read: %v", err)
			return Struct{}
		}
		return elements{f, true}.takeStruct("input", shape, root, nil)
	}
	return s.restInput(f, op, shape, path, r, body)
}

// restInput reads members from path, query and headers, and the rest from the body.
func (s *Service) restInput(f *found, op *Operation, shape *Shape, path map[string]string, r *http.Request, body []byte) Struct {
	bound, inBody := Struct{}, false
	elsewhere := map[string]bool{}
	asked := r.URL.Query()
	for _, name := range slices.Sorted(maps.Keys(shape.Members)) {
		m := shape.Members[name]
		var text string
		var there bool
		switch m.Location {
		case "":
			inBody = true
			continue
		case "uri":
			text, there = path[m.LocationName]
		case "querystring":
			text, there = asked.Get(m.LocationName), asked.Has(m.LocationName)
			asked.Del(m.LocationName)
		case "header":
			text, there = r.Header.Get(m.LocationName), r.Header.Get(m.LocationName) != ""
		default:
			f.add("input."+name, "members in %q are not read", m.Location)
		}
		elsewhere[name] = true
		if !there {
			continue
		}
		v, ok := parseText(s.Shapes[m.Shape].Type, text)
		if !ok {
			f.add("input."+name, "%s is a %s, and this is %q", m.Shape, s.Shapes[m.Shape].Type, text)
			continue
		}
		bound[name] = v
	}
	for _, name := range slices.Sorted(maps.Keys(asked)) {
		f.add("request", "%s has no parameter %q", op.Name, name)
	}
	if shape.Payload != "" {
		f.add("input", "payloads are not read: no operation that is answered has one")
	}
	if !inBody {
		if len(body) > 0 {
			f.add("request", "%s has no body", op.Name)
		}
		return bound
	}
	in := s.restBody(f, op, shape, elsewhere, body)
	maps.Copy(in, bound)
	return in
}

func (s *Service) restBody(f *found, op *Operation, shape *Shape, elsewhere map[string]bool, body []byte) Struct {
	if s.protocol == restJSON {
		raw, err := decodeJSON(body)
		if err != nil {
			f.add("input", "it cannot be read: %v", err)
			return Struct{}
		}
		v, _ := f.take("input", shape, raw)
		in, ok := v.(Struct)
		if !ok {
			return Struct{}
		}
		for name := range elsewhere {
			if _, ok := in[name]; ok {
				f.add("input."+name, "it does not belong into the body")
			}
		}
		return in
	}
	root, err := decodeXML(body)
	switch {
	case err != nil:
		f.add("input", "it cannot be read: %v", err)
		return Struct{}
	case root.name != op.Input.LocationName || root.space != op.Input.XMLNamespace.URI:
		f.add("input", "it is a <%s> of %q, not <%s> of %q", root.name, root.space, op.Input.LocationName, op.Input.XMLNamespace.URI)
	}
	return elements{f, false}.takeStruct("input", shape, root, elsewhere)
}

// text is JSON of what was checked.
func text(v any) []byte {
	b, err := json.Marshal(jsonOf(v))
	if err != nil {
		return []byte("null") // a float that is no number; there is none in an answer
	}
	return b
}
