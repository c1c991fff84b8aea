package writer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sirupsen/logrus"

	"originchain/shared/api"
	"originchain/shared/fault"
	"originchain/shared/httpx"
	"originchain/shared/telemetry"
)

// Bounds of one diagnostic event.
const (
	maxEventKindBytes   = 64
	maxEventDetailBytes = 4 << 10
	// maxEventFields is how many members of a detail are logged.
	maxEventFields = 32
)

// event is what a client library saw:
//
//	kind    text of at most 64 bytes, such as "retry.exhausted"; required
//	at      RFC 3339 time; optional
//	detail  object of at most 4 KiB of JSON; optional
type event struct {
	Kind   string                     `json:"kind"`
	At     *time.Time                 `json:"at"`
	Detail map[string]json.RawMessage `json:"detail"`
}

// postDiagnostics takes events into the server's log, all of them or none.
func (s *service) postDiagnostics(c *httpx.Call, in api.DiagnosticsRequest) (out api.DiagnosticsAccepted, err error) {
	if len(in.Events) == 0 || len(in.Events) > api.MaxDiagnosticEvents {
		return out, fault.New(fault.ValidationFailed, "events holds %d events; send 1 to %d", len(in.Events), api.MaxDiagnosticEvents).With("field", "events")
	}
	events := make([]event, len(in.Events))
	for i, raw := range in.Events {
		if events[i], err = parseEvent(i, raw); err != nil {
			return out, err
		}
	}
	for i := range events {
		fields := events[i].fields()
		fields["client_event"] = events[i].Kind
		telemetry.Entry(s.log, &c.Info).WithFields(fields).Info("client diagnostics")
	}
	return api.DiagnosticsAccepted{Accepted: len(events)}, nil
}

func parseEvent(i int, raw json.RawMessage) (e event, err error) {
	refuse := func(field, format string, args ...any) error {
		at := fmt.Sprintf("events[%d]", i)
		if field != "" {
			at += "." + field
		}
		return fault.New(fault.ValidationFailed, "%s %s; no event was taken", at, fmt.Sprintf(format, args...)).With("field", at)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if raw[0] != '{' || dec.Decode(&e) != nil {
		return e, refuse("", "is not an object of kind (text), at (RFC 3339 time) and detail (object)")
	}
	switch {
	case e.Kind == "" || len(e.Kind) > maxEventKindBytes || !utf8.ValidString(e.Kind) || strings.ContainsFunc(e.Kind, func(r rune) bool { return r < ' ' }):
		return e, refuse("kind", "is text of 1 to %d bytes without control characters", maxEventKindBytes)
	case detailBytes(e.Detail) > maxEventDetailBytes:
		return e, refuse("detail", "has more than %d bytes", maxEventDetailBytes)
	}
	return e, nil
}

// detailBytes is about the length of a detail's JSON, white space left out.
func detailBytes(detail map[string]json.RawMessage) int {
	n := 2
	for name, value := range detail {
		n += len(name) + len(value) + 4
	}
	return n
}

// fields is what is logged of an event. Numbers and truth values of the detail
// are; text and nested values could hold data of rows and are left out.
func (e *event) fields() logrus.Fields {
	fields := logrus.Fields{}
	if e.At != nil {
		fields["client_time"] = e.At.UTC().Format(time.RFC3339Nano)
	}
	for name, value := range e.Detail {
		var number json.Number
		var truth bool
		switch {
		case len(fields) > maxEventFields || !plainName(name):
		case json.Unmarshal(value, &truth) == nil && string(value) != "null":
			fields["client_"+name] = truth
		case value[0] != '"' && json.Unmarshal(value, &number) == nil && string(value) != "null":
			fields["client_"+name] = number
		}
	}
	return fields
}

// plainName accepts names that are safe as names of log fields.
func plainName(name string) bool {
	if name == "" || len(name) > maxEventKindBytes {
		return false
	}
	for _, r := range name {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' {
			return false
		}
	}
	return true
}
