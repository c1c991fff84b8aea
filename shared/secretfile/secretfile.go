// Package secretfile reads files that hold a secret. One that others than its owner may
// read is refused: what is in it may be known already.
package secretfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Read returns what is in a file, which has at most maxBytes.
func Read(path string, maxBytes int64) (_ string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	switch {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is no file", path)
	case info.Mode().Perm()&0o077 != 0:
		return "", fmt.Errorf("%s may be read by others (mode %#o): chmod 600 it, and change the secret if anybody could have read it", path, info.Mode().Perm())
	}
	b, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err == nil && int64(len(b)) > maxBytes {
		return "", fmt.Errorf("%s is longer than %d bytes", path, maxBytes)
	}
	return string(b), err
}

// Line returns the one line of a file, without blanks at its ends.
func Line(path string, maxBytes int64) (string, error) {
	text, err := Read(path, maxBytes)
	if err != nil {
		return "", err
	}
	if text = strings.TrimSpace(text); text == "" || strings.ContainsAny(text, "\r\n") {
		return "", fmt.Errorf("%s is to hold one line", path)
	}
	return text, nil
}
