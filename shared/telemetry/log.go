package telemetry

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"time"

	"github.com/sirupsen/logrus"
)

// Field names that mean the same in every line.
const (
	FieldTime      = "ts"
	FieldLevel     = "level"
	FieldMessage   = "msg"
	FieldRequestID = "request_id"
	FieldTraceID   = "trace_id"
	FieldTenant    = "tenant"
	FieldActor     = "actor"
	FieldQueryID   = "query_id"
	FieldLogicalID = "logical_request_id"
)

// NewLogger makes the logger of the process: one JSON object per line on out.
// level is a logrus level ("debug", "info", "warning", "error").
func NewLogger(out io.Writer, level string) (*logrus.Logger, error) {
	parsed, err := logrus.ParseLevel(level)
	if err != nil {
		return nil, fmt.Errorf("log level %q: use debug, info, warning or error", level)
	}
	log := logrus.New()
	log.SetOutput(out)
	log.SetLevel(parsed)
	log.SetFormatter(redacting{&logrus.JSONFormatter{
		TimestampFormat:   time.RFC3339Nano,
		DisableHTMLEscape: true,
		FieldMap: logrus.FieldMap{
			logrus.FieldKeyTime: FieldTime, logrus.FieldKeyLevel: FieldLevel, logrus.FieldKeyMsg: FieldMessage,
		},
	}})
	return log, nil
}

// Entry is a log entry that names the request.
func Entry(log *logrus.Logger, r *Request) *logrus.Entry {
	fields := make(logrus.Fields, 8)
	put := func(name, value string) {
		if value != "" {
			fields[name] = value
		}
	}
	put(FieldRequestID, r.ID)
	put(FieldTenant, r.Tenant)
	put(FieldActor, r.Actor)
	put(FieldQueryID, r.QueryID)
	put(FieldLogicalID, r.LogicalID)
	if r.Trace.Valid() {
		put(FieldTraceID, r.Trace.TraceID())
	}
	return log.WithFields(fields)
}

// tokenText is what a token of ours looks like, whole or cut short.
var tokenText = regexp.MustCompile(`oc_(live|test|admin)_[0-9A-Za-z]+`)

const tokenRedacted = "oc_${1}_[redacted]"

// Redact replaces whatever looks like a token. No caller passes one on purpose;
// this is for text that quotes what a client sent.
func Redact(s string) string {
	return tokenText.ReplaceAllString(s, tokenRedacted)
}

// redacting takes tokens out of finished lines. It is a formatter and not a
// hook: a hook sees fields of any type and would miss a token inside a struct
// or an error, the finished line hides nothing.
type redacting struct{ next logrus.Formatter }

// Format implements logrus.Formatter.
func (r redacting) Format(e *logrus.Entry) ([]byte, error) {
	e.Time = e.Time.UTC()
	line, err := r.next.Format(e)
	if err != nil || !bytes.Contains(line, []byte("oc_")) {
		return line, err
	}
	return tokenText.ReplaceAll(line, []byte(tokenRedacted)), nil
}
