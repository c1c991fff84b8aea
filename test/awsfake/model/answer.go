package model

import (
	"bytes"
	"encoding/xml"
	"maps"
	"net/http"
	"slices"
	"strconv"

	"github.com/aws/smithy-go/encoding/cbor"
)

// Answer is what goes over the wire.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Answer is the answer of an operation, and all that is wrong with it.
func (s *Service) Answer(operation, requestID string, output Struct) (Answer, []Violation) {
	op := s.Operations[operation]
	f := &found{service: s, operation: operation}
	f.check("output", s.shape(op.Output), output)
	a := Answer{Status: http.StatusOK, Header: http.Header{"X-Amzn-Requestid": {requestID}}}
	if op.HTTP.ResponseCode != 0 {
		a.Status = op.HTTP.ResponseCode
	}
	if len(f.list) > 0 {
		return a, f.list // it may be of no shape that could be written
	}
	shape := s.shape(op.Output)
	switch s.protocol {
	case jsonRPC:
		a.typed("application/x-amz-json-" + s.Metadata.JSONVersion)
		a.Body = text(output)
	case rpcV2CBOR:
		a.typed("application/cbor")
		a.Header.Set("Smithy-Protocol", rpcV2CBOR)
		a.Body = cbor.Encode(toCBOR(output))
	case restJSON:
		a.typed("application/json")
		body := maps.Clone(output)
		s.headers(&a, shape, body)
		a.Body = text(body)
	case restXML:
		a.typed("text/xml")
		s.headers(&a, shape, maps.Clone(output))
		a.Body = s.document(operation+"Response", op, shape, output, "")
	case query:
		a.typed("text/xml")
		a.Body = s.document(operation+"Response", op, shape, output, requestID)
	}
	return a, nil
}

func (a *Answer) typed(contentType string) { a.Header.Set("Content-Type", contentType) }

// headers moves members that are bound to headers out of the body.
func (s *Service) headers(a *Answer, shape *Shape, body Struct) {
	for _, name := range slices.Sorted(maps.Keys(shape.Members)) {
		if m := shape.Members[name]; m.Location == "header" && body[name] != nil {
			a.Header.Set(m.LocationName, formatText(body[name]))
			delete(body, name)
		}
	}
}

// document is an answer in XML; with a request's id it is that of a query, which wraps.
func (s *Service) document(root string, op *Operation, shape *Shape, output Struct, requestID string) []byte {
	space := s.Metadata.XMLNamespace
	if space == "" {
		space = "https://" + s.Name + ".amazonaws.com/doc/" + s.Metadata.APIVersion + "/"
	}
	b := bytes.NewBufferString(xml.Header + "<" + root + " xmlns=\"" + space + "\">")
	wrapper := ""
	if op.Output != nil {
		wrapper = op.Output.ResultWrapper
	}
	if wrapper != "" {
		b.WriteString("<" + wrapper + ">")
	}
	s.writeMembers(b, shape, output)
	if wrapper != "" {
		b.WriteString("</" + wrapper + ">")
	}
	if requestID != "" {
		b.WriteString("<ResponseMetadata><RequestId>" + requestID + "</RequestId></ResponseMetadata>")
	}
	b.WriteString("</" + root + ">")
	return b.Bytes()
}

// general are errors that every service may answer with, and their status.
func general() map[string]int {
	return map[string]int{
		"AccessDenied": http.StatusForbidden, "AccessDeniedException": http.StatusBadRequest,
		"InvalidParameterValue": http.StatusBadRequest, "MissingParameter": http.StatusBadRequest,
		"InternalFailure": http.StatusInternalServerError, "InternalError": http.StatusInternalServerError,
		"ServiceUnavailable": http.StatusServiceUnavailable,
		"Throttling":         http.StatusBadRequest, "ThrottlingException": http.StatusBadRequest,
		"RequestThrottled": http.StatusForbidden, "TooManyRequestsException": http.StatusTooManyRequests,
		"ValidationException": http.StatusBadRequest, "ValidationError": http.StatusBadRequest,
	}
}

// Refusal is an answer that says that an operation failed, and all that is wrong with it:
// the code is to be one of the operation's, or one that every service has.
func (s *Service) Refusal(operation, requestID, code, message string) (Answer, []Violation) {
	f := &found{service: s, operation: operation}
	status, wire, known := general()[code], code, false
	if op := s.Operations[operation]; op != nil {
		for _, ref := range op.Errors {
			shape := s.Shapes[ref.Shape]
			if ref.Shape != code && shape.Error.Code != code {
				continue
			}
			known = true
			switch status = shape.Error.HTTPStatus; {
			case status == 0 && shape.Fault:
				status = http.StatusInternalServerError
			case status == 0:
				status = http.StatusBadRequest
			}
			if shape.Error.Code != "" && s.protocol == query {
				wire = shape.Error.Code
			}
			if s.protocol != query {
				wire = ref.Shape
			}
		}
	}
	if !known && status == 0 {
		f.add("error", "%s does not fail with %q", operation, code)
		status = http.StatusBadRequest
	}
	a := Answer{Status: status, Header: http.Header{"X-Amzn-Requestid": {requestID}}}
	switch s.protocol {
	case jsonRPC:
		a.typed("application/x-amz-json-" + s.Metadata.JSONVersion)
		a.Body = text(Struct{"__type": wire, "message": message})
	case rpcV2CBOR:
		a.typed("application/cbor")
		a.Header.Set("Smithy-Protocol", rpcV2CBOR)
		a.Body = cbor.Encode(cbor.Map{"__type": cbor.String(wire), "message": cbor.String(message)})
	case restJSON:
		a.typed("application/json")
		a.Header.Set("X-Amzn-Errortype", wire)
		a.Body = text(Struct{"message": message})
	case restXML, query:
		a.typed("text/xml")
		kind := "Sender"
		if status >= http.StatusInternalServerError {
			kind = "Receiver"
		}
		b := bytes.NewBufferString(xml.Header + "<ErrorResponse><Error><Type>" + kind + "</Type><Code>" + wire + "</Code><Message>")
		_ = xml.EscapeText(b, []byte(message)) // a buffer takes everything
		b.WriteString("</Message></Error><RequestId>" + requestID + "</RequestId></ErrorResponse>")
		a.Body = b.Bytes()
	}
	a.Header.Set("Content-Length", strconv.Itoa(len(a.Body)))
	return a, f.list
}
