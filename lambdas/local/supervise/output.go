package supervise

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

// DefaultMaxLogBytes is when a log is rotated. One older file is kept, as
// <machine>.log.1, so that a machine has at most twice as much.
const DefaultMaxLogBytes = 16 << 20

// logFile is a file that is rotated by size. What cannot be written is counted and
// dropped: a full disk must not block the process that writes to the pipe.
type logFile struct {
	path string
	most int64

	mu      sync.Mutex
	file    *os.File
	size    int64
	lost    int64
	lastErr error
}

func newLogFile(path string, most int64) *logFile { return &logFile{path: path, most: most} }

// Write implements io.Writer; it never fails.
func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.write(p); err != nil {
		l.lost += int64(len(p))
		l.lastErr = err
	}
	return len(p), nil
}

func (l *logFile) write(p []byte) error {
	if l.file != nil && l.size > 0 && l.size+int64(len(p)) > l.most {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	if l.file == nil {
		if err := l.open(); err != nil {
			return err
		}
	}
	if l.lost > 0 {
		note := "supervisor: " + strconv.FormatInt(l.lost, 10) + " bytes of output are missing here: " + l.lastErr.Error() + "\n"
		n, err := l.file.WriteString(note)
		l.size += int64(n)
		if err != nil {
			return err
		}
		l.lost = 0
	}
	n, err := l.file.Write(p)
	l.size += int64(n)
	return err
}

func (l *logFile) open() error {
	if err := os.MkdirAll(filepath.Dir(l.path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.file, l.size = f, st.Size()
	return nil
}

func (l *logFile) rotate() error {
	err := l.file.Close()
	l.file = nil
	return errors.Join(err, os.Rename(l.path, l.path+".1"))
}

// Close closes the file; a later write opens it again.
func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	if l.lost > 0 {
		err = fmt.Errorf("%d bytes of output could not be written to %s: %w", l.lost, l.path, l.lastErr)
	}
	if l.file != nil {
		err = errors.Join(err, l.file.Close())
		l.file = nil
	}
	return err
}
