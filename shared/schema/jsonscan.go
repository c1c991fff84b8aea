package schema

import (
	"fmt"
	"unicode/utf16"
	"unicode/utf8"

	"originchain/shared/fault"
)

// maxJSONDepth bounds nested objects and arrays; the row's own object is the
// first level.
const maxJSONDepth = 32

// scanner reads strict JSON (RFC 8259) from bytes without building a tree: the
// ingest path decodes each value straight into its column. encoding/json was
// refused: it accepts repeated keys, replaces bad UTF-8 in silence and has no
// bound of its own on depth that a caller could set. A tree parser was refused
// too: it allocates per node, for values that end in a column anyway.
type scanner struct {
	src []byte
	at  int
}

// fail makes the fault for what stands at the scanner's position.
func (s *scanner) fail(format string, args ...any) error {
	return fault.New(fault.InvalidJSON, "invalid JSON at byte %d: %s", s.at, fmt.Sprintf(format, args...))
}

// unexpected is for a byte that cannot stand here, or for the end of the text.
func (s *scanner) unexpected(want string) error {
	if s.at >= len(s.src) {
		return s.fail("it ends where %s is expected", want)
	}
	return s.fail("%q where %s is expected", s.src[s.at], want)
}

// space steps over white space and returns the byte after it, 0 at the end.
func (s *scanner) space() byte {
	for s.at < len(s.src) {
		c := s.src[s.at]
		if c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			return c
		}
		s.at++
	}
	return 0
}

// end requires that only white space is left.
func (s *scanner) end() error {
	s.space()
	if s.at < len(s.src) {
		return s.fail("%q after the end of the value", s.src[s.at])
	}
	return nil
}

// text reads a string that begins at the scanner's position, and returns what
// stands between its quotes; escaped says that unescape is needed to read it.
func (s *scanner) text() (raw []byte, escaped bool, err error) {
	src, start, high := s.src, s.at+1, byte(0)
	for i := start; i < len(src); i++ {
		c := src[i]
		if c == '"' {
			raw = src[start:i]
			if high >= utf8.RuneSelf && !utf8.Valid(raw) {
				s.at = start + invalidUTF8(raw)
				return nil, false, s.fail("byte 0x%02x is not valid UTF-8", src[s.at])
			}
			s.at = i + 1
			return raw, escaped, nil
		}
		if c == '\\' {
			escaped = true
			i++
			continue
		}
		if c < ' ' {
			s.at = i
			return nil, false, s.fail("control character 0x%02x in a string; escape it", c)
		}
		high |= c
	}
	s.at = len(src)
	return nil, false, s.fail("a string without its closing quote")
}

// unescape appends the text that raw, from text, stands for.
func (s *scanner) unescape(dst, raw []byte) ([]byte, error) {
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c != '\\' {
			dst = append(dst, c)
			continue
		}
		i++ // text saw a byte after every backslash
		switch raw[i] {
		case '"', '\\', '/':
			dst = append(dst, raw[i])
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r, n := unescapeRune(raw[i+1:])
			if n == 0 {
				return nil, s.fail(`a \u escape without four hex digits, or half of a surrogate pair, in the string before`)
			}
			dst = utf8.AppendRune(dst, r)
			i += n
		default:
			return nil, s.fail(`unknown escape \%c in the string before`, raw[i])
		}
	}
	return dst, nil
}

// unescapeRune reads what follows \u: four hex digits, for a high surrogate with
// the escape of its low one. It returns how many bytes it took, 0 if it is none.
func unescapeRune(b []byte) (rune, int) {
	r, ok := hex4(b)
	if !ok {
		return 0, 0
	}
	if !utf16.IsSurrogate(r) {
		return r, 4
	}
	if len(b) < 6 || b[4] != '\\' || b[5] != 'u' {
		return 0, 0
	}
	low, ok := hex4(b[6:])
	pair := utf16.DecodeRune(r, low)
	if !ok || pair == utf8.RuneError {
		return 0, 0
	}
	return pair, 10
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// number steps over a number and returns its text, so that no digit of a large
// integer is lost.
func (s *scanner) number() ([]byte, error) {
	start := s.at
	if s.peek() == '-' {
		s.at++
	}
	if s.peek() == '0' {
		s.at++
	} else if s.digits() == 0 {
		return nil, s.unexpected("a digit")
	}
	if s.peek() == '.' {
		s.at++
		if s.digits() == 0 {
			return nil, s.unexpected("a digit")
		}
	}
	if s.peek()|0x20 == 'e' {
		s.at++
		if c := s.peek(); c == '+' || c == '-' {
			s.at++
		}
		if s.digits() == 0 {
			return nil, s.unexpected("a digit")
		}
	}
	if c := s.peek(); c >= '0' && c <= '9' {
		return nil, s.fail("a number with a leading zero")
	}
	return s.src[start:s.at], nil
}

// peek is the byte at the position, 0 at the end.
func (s *scanner) peek() byte {
	if s.at < len(s.src) {
		return s.src[s.at]
	}
	return 0
}

func (s *scanner) digits() int {
	start := s.at
	for s.at < len(s.src) && s.src[s.at]-'0' <= 9 {
		s.at++
	}
	return s.at - start
}

// literal steps over true, false or null.
func (s *scanner) literal(word string) error {
	if len(s.src)-s.at < len(word) || string(s.src[s.at:s.at+len(word)]) != word {
		return s.unexpected("a value")
	}
	s.at += len(word)
	return nil
}

// skip checks and steps over one value; depth is the number of objects and
// arrays around it.
func (s *scanner) skip(depth int) error {
	switch s.space() {
	case '{':
		return s.skipObject(depth + 1)
	case '[':
		return s.skipArray(depth + 1)
	case '"':
		raw, escaped, err := s.text()
		if err == nil && escaped {
			_, err = s.unescape(nil, raw)
		}
		return err
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		_, err := s.number()
		return err
	}
	return s.unexpected("a value")
}

func (s *scanner) deeper(depth int) error {
	if depth > maxJSONDepth {
		return s.fail("more than %d levels of objects and arrays", maxJSONDepth)
	}
	return nil
}

func (s *scanner) skipObject(depth int) error {
	if err := s.deeper(depth); err != nil {
		return err
	}
	var keys keySet
	var err error
	more := s.open('}')
	for more && err == nil {
		var key []byte
		if key, err = s.key(); err != nil {
			break
		}
		if !keys.add(key) {
			return s.fail("key %q occurs twice in one object", clip(string(key), maxQuoted))
		}
		if err = s.skip(depth); err != nil {
			break
		}
		more, err = s.next('}')
	}
	return err
}

func (s *scanner) skipArray(depth int) error {
	if err := s.deeper(depth); err != nil {
		return err
	}
	var err error
	more := s.open(']')
	for more && err == nil {
		if err = s.skip(depth); err != nil {
			break
		}
		more, err = s.next(']')
	}
	return err
}

// open steps over an opening bracket and says whether an element follows.
func (s *scanner) open(closing byte) (more bool) {
	s.at++
	if s.space() == closing {
		s.at++
		return false
	}
	return true
}

// next steps over what follows an element: a comma, when more follow, or the
// closing bracket.
func (s *scanner) next(closing byte) (more bool, err error) {
	switch s.space() {
	case ',':
		s.at++
		return true, nil
	case closing:
		s.at++
		return false, nil
	}
	return false, s.unexpected("a comma or " + string(rune(closing)))
}

// key reads an object's key and the colon after it. The key aliases the source
// unless it had escapes.
func (s *scanner) key() ([]byte, error) {
	if s.space() != '"' {
		return nil, s.unexpected("a key in quotes")
	}
	raw, escaped, err := s.text()
	if err != nil {
		return nil, err
	}
	if escaped {
		if raw, err = s.unescape(make([]byte, 0, len(raw)), raw); err != nil {
			return nil, err
		}
	}
	if s.space() != ':' {
		return nil, s.unexpected("a colon")
	}
	s.at++
	return raw, nil
}

// keySet finds repeated keys of one object: by comparing while there are few,
// by a map beyond, so that a hostile object is not quadratic.
type keySet struct {
	few  [8][]byte
	n    int
	many map[string]struct{}
}

// add says whether the key is new.
func (k *keySet) add(key []byte) bool {
	if k.many == nil {
		for _, have := range k.few[:k.n] {
			if string(have) == string(key) {
				return false
			}
		}
		if k.n < len(k.few) {
			k.few[k.n] = key
			k.n++
			return true
		}
		k.many = map[string]struct{}{}
		for _, have := range k.few {
			k.many[string(have)] = struct{}{}
		}
	}
	if _, ok := k.many[string(key)]; ok {
		return false
	}
	k.many[string(key)] = struct{}{}
	return true
}
