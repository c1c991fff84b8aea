package telemetry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// AuditEvent is a privileged action and how it ended.
type AuditEvent struct {
	// Action names what was done, such as "tenant.create".
	Action string
	// Object is what it was done to, such as "tenant/01J…", or "".
	Object string
	// Outcome is "ok" or the code of the error.
	Outcome string
	// Suppressed counts refused attempts before this line that were not written one by one.
	Suppressed int64
}

// auditLine is the line as it stands in the file.
type auditLine struct {
	Time       time.Time `json:"ts"`
	Actor      string    `json:"actor"`
	Action     string    `json:"action"`
	Object     string    `json:"object,omitempty"`
	Outcome    string    `json:"outcome"`
	Tenant     string    `json:"tenant,omitempty"`
	RequestID  string    `json:"request_id,omitempty"`
	TraceID    string    `json:"trace_id,omitempty"`
	Suppressed int64     `json:"suppressed,omitempty"`
}

// auditFile is what the audit log needs of a file.
type auditFile interface {
	io.Writer
	Sync() error
	Close() error
}

// Audit is the audit log: a file of JSON lines, appended to and synced line by
// line, and a copy of each line in the server's log. It is never rotated or
// truncated by the server; moving it away while the server is stopped is safe.
type Audit struct {
	mu   sync.Mutex
	file auditFile
	log  *logrus.Logger
	now  func() time.Time
	// broken is the first failure. What follows a torn line could not be
	// trusted, so nothing is written after it.
	broken error
}

// OpenAudit opens or creates the audit log at path with mode 0600. A last line
// that a crash cut short is ended, so that the next one stands on its own.
func OpenAudit(path string, log *logrus.Logger) (*Audit, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the audit log: %w", err)
	}
	if err := prepareAudit(f, path); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare the audit log %s: %w", path, err), f.Close())
	}
	return &Audit{file: f, log: log, now: time.Now}, nil
}

// prepareAudit ends a torn last line and makes the file and its name durable.
func prepareAudit(f *os.File, path string) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if size := info.Size(); size > 0 {
		var last [1]byte
		if _, err := f.ReadAt(last[:], size-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			if _, err := f.Write([]byte{'\n'}); err != nil {
				return err
			}
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Record writes one line and syncs it before it returns. After a failed write
// or sync every further call fails too, until the server is started again.
func (a *Audit) Record(r *Request, e AuditEvent) error {
	actor := r.Actor
	if actor == "" {
		actor = "unknown"
	}
	line := auditLine{Time: a.now().UTC(), Actor: actor, Action: e.Action, Object: Redact(e.Object), Outcome: e.Outcome,
		Tenant: r.Tenant, RequestID: r.ID, Suppressed: e.Suppressed}
	if r.Trace.Valid() {
		line.TraceID = r.Trace.TraceID()
	}
	text, err := json.Marshal(line)
	if err != nil {
		return fmt.Errorf("encode an audit line: %w", err)
	}
	Entry(a.log, r).WithFields(logrus.Fields{"action": e.Action, "object": e.Object, "outcome": e.Outcome}).Info("audit")
	return a.append(append(text, '\n'))
}

func (a *Audit) append(line []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.broken != nil {
		return fmt.Errorf("the audit log failed earlier: %w", a.broken)
	}
	_, err := a.file.Write(line)
	if err == nil {
		err = a.file.Sync()
	}
	if err != nil {
		a.broken = fmt.Errorf("write the audit log: %w", err)
	}
	return a.broken
}

// Close closes the file.
func (a *Audit) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.file.Close()
}
