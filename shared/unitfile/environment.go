package unitfile

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"
)

// Environment is what the service's variables are: Environment=, then the files of
// EnvironmentFile=, then without those of UnsetEnvironment=. readFile gives an
// environment file's text; one that is not there is an error unless its name begins
// with a dash.
func (f *File) Environment(specifiers map[byte]string, readFile func(path string) ([]byte, error)) (map[string]string, error) {
	if len(f.list("Service", "PassEnvironment")) > 0 {
		return nil, fmt.Errorf("%s: PassEnvironment takes variables from the service manager, which are not known here; write Environment", f.name)
	}
	env := map[string]string{}
	err := f.eachWord("Environment", specifiers, func(w string) error {
		name, value, ok := strings.Cut(w, "=")
		if !ok || !validName(name) {
			return fmt.Errorf("%q is no NAME=value", w)
		}
		env[name] = value
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, s := range f.list("Service", "EnvironmentFile") {
		more, err := f.environmentFile(s, specifiers, readFile)
		if err != nil {
			return nil, err
		}
		maps.Copy(env, more)
	}
	return env, f.eachWord("UnsetEnvironment", specifiers, func(w string) error {
		name, value, exact := strings.Cut(w, "=")
		if !exact || env[name] == value {
			delete(env, name)
		}
		return nil
	})
}

func (f *File) eachWord(key string, specifiers map[byte]string, do func(string) error) error {
	for _, s := range f.list("Service", key) {
		bad := func(err error) error {
			return &SyntaxError{File: f.name, Line: s.line, What: key + ": " + err.Error()}
		}
		ws, err := words(s.value)
		if err != nil {
			return bad(err)
		}
		for _, w := range ws {
			text, err := specify([]string{w.text}, specifiers)
			if err != nil {
				return bad(err)
			}
			if err := do(text[0]); err != nil {
				return bad(err)
			}
		}
	}
	return nil
}

func (f *File) environmentFile(s setting, specifiers map[byte]string, readFile func(string) ([]byte, error)) (map[string]string, error) {
	resolved, err := specify([]string{string(s.value)}, specifiers)
	if err != nil {
		return nil, &SyntaxError{File: f.name, Line: s.line, What: "EnvironmentFile: " + err.Error()}
	}
	path := strings.TrimPrefix(resolved[0], "-")
	if !strings.HasPrefix(path, "/") {
		return nil, &SyntaxError{File: f.name, Line: s.line, What: fmt.Sprintf("EnvironmentFile: %q is no absolute path", path)}
	}
	text, err := readFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && path != resolved[0]:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("%s: read the environment file %s: %w", f.name, path, err)
	}
	return ParseEnvironment(path, text)
}

func validName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// ParseEnvironment reads an environment file; name is for messages. Its quoting is a
// shell's more than a unit's: single quotes keep everything, double quotes all but
// backslashes before " \ ` $ and newlines, and outside a backslash keeps the next byte.
func ParseEnvironment(name string, text []byte) (map[string]string, error) {
	if len(text) > maxBytes {
		return nil, &SyntaxError{File: name, Line: 1, What: fmt.Sprintf("the file has %d bytes, more than %d", len(text), maxBytes)}
	}
	out := map[string]string{}
	r := &envReader{text: text, line: 1}
	for r.pos < len(r.text) {
		line := r.line
		key, value, ok, err := r.assignment()
		switch {
		case err != nil:
			return nil, &SyntaxError{File: name, Line: line, What: err.Error()}
		case ok && !validName(key):
			return nil, &SyntaxError{File: name, Line: line, What: fmt.Sprintf("%q is no name of a variable", key)}
		case ok:
			out[key] = value
		}
	}
	return out, nil
}

type envReader struct {
	text []byte
	pos  int
	line int
}

// assignment reads one line, or more where a quote or a backslash says so; ok is
// false for a comment and for a line without an equals sign, which says nothing.
func (r *envReader) assignment() (key, value string, ok bool, err error) {
	for r.pos < len(r.text) && blank(r.text[r.pos]) {
		r.advance()
	}
	from := r.pos
	if from == len(r.text) {
		return "", "", false, nil
	}
	comment := r.text[from] == '#' || r.text[from] == ';'
	for r.pos < len(r.text) && r.text[r.pos] != '\n' && (comment || r.text[r.pos] != '=') {
		r.advance()
	}
	if comment || r.pos == len(r.text) || r.text[r.pos] != '=' {
		return "", "", false, nil
	}
	key = strings.TrimRight(string(r.text[from:r.pos]), " \t")
	r.advance()
	value, err = r.value()
	return key, value, true, err
}

func (r *envReader) advance() byte {
	c := r.text[r.pos]
	if r.pos++; c == '\n' {
		r.line++
	}
	return c
}

func (r *envReader) value() (string, error) {
	for r.pos < len(r.text) && (r.text[r.pos] == ' ' || r.text[r.pos] == '\t') {
		r.advance()
	}
	var b strings.Builder
	kept := 0 // what blanks at the end do not shorten
	quote := byte(0)
	for r.pos < len(r.text) {
		c := r.advance()
		switch {
		case quote != 0 && c == quote:
			quote, kept = 0, b.Len()
		case quote == '\'':
			b.WriteByte(c)
		case c == '\\' && r.pos < len(r.text):
			r.escaped(&b, quote)
			kept = b.Len()
		case quote == 0 && (c == '"' || c == '\''):
			quote, kept = c, b.Len()
		case quote == 0 && c == '\n':
			return trimmed(b.String(), kept), nil
		default:
			b.WriteByte(c)
		}
	}
	if quote != 0 {
		return "", fmt.Errorf("the quote %c is not closed", quote)
	}
	return trimmed(b.String(), kept), nil
}

// escaped takes the byte behind a backslash.
func (r *envReader) escaped(b *strings.Builder, quote byte) {
	c := r.advance()
	if c == '\n' {
		return // the line goes on
	}
	if quote == '"' && !strings.ContainsRune("\"\\`$", rune(c)) {
		b.WriteByte('\\')
	}
	b.WriteByte(c)
}

// trimmed is s without the blanks at its end, but for its first kept bytes.
func trimmed(s string, kept int) string { return s[:kept] + strings.TrimRight(s[kept:], " \t\r") }
