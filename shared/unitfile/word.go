package unitfile

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// word is one item of a value: text is what it says, and raw[from:to] how it is written.
type word struct {
	text     string
	from, to int
	// quoted says that some of it was quoted or escaped: it is not a lone ; then.
	quoted bool
}

// words splits a value as systemd does: at blanks that are not quoted, with C escapes.
func words(value []byte) (out []word, err error) {
	for i := 0; ; {
		for i < len(value) && blank(value[i]) {
			i++
		}
		if i == len(value) {
			return out, nil
		}
		w, err := oneWord(value, i)
		if err != nil {
			return nil, err
		}
		out = append(out, w)
		i = w.to
	}
}

func oneWord(value []byte, from int) (word, error) {
	w := word{from: from}
	var text strings.Builder
	quote := byte(0)
	i := from
	for i < len(value) && (quote != 0 || !blank(value[i])) {
		c := value[i]
		switch {
		case c == quote && quote != 0:
			quote = 0
			i++
		case quote == 0 && (c == '"' || c == '\''):
			quote, w.quoted = c, true
			i++
		case c == '\\':
			n, s, err := unescape(value[i+1:])
			if err != nil {
				return w, err
			}
			text.WriteString(s)
			w.quoted = true
			i += 1 + n
		default:
			text.WriteByte(c)
			i++
		}
	}
	if quote != 0 {
		return w, fmt.Errorf("the quote %c is not closed", quote)
	}
	w.text, w.to = text.String(), i
	return w, nil
}

var escapes = map[byte]string{
	'a': "\a", 'b': "\b", 'f': "\f", 'n': "\n", 'r': "\r", 't': "\t", 'v': "\v", '\\': `\`, '"': `"`, '\'': "'", 's': " ", ';': ";",
}

// unescape reads what stands behind a backslash: how many bytes, and what they mean.
func unescape(b []byte) (n int, text string, err error) {
	if len(b) == 0 {
		return 0, "", fmt.Errorf("a backslash at the end escapes nothing")
	}
	if s, ok := escapes[b[0]]; ok {
		return 1, s, nil
	}
	digits, base, from := 0, 16, 1
	switch c := b[0]; {
	case c == 'x':
		digits = 2
	case c == 'u':
		digits = 4
	case c == 'U':
		digits = 8
	case c >= '0' && c <= '7':
		digits, base, from = 3, 8, 0
	}
	if digits == 0 || len(b) < from+digits {
		return 0, "", fmt.Errorf(`the escape \%c is unknown or not whole`, b[0])
	}
	code, err := strconv.ParseUint(string(b[from:from+digits]), base, 32)
	n = from + digits
	wide := b[0] == 'u' || b[0] == 'U'
	switch {
	case err != nil, code == 0, !wide && code > 0xff, wide && !utf8.ValidRune(rune(code)):
		return 0, "", fmt.Errorf(`the escape \%s names no character`, b[:n])
	case wide:
		return n, string(rune(code)), nil
	}
	return n, string([]byte{byte(code)}), nil
}

// quoteWord writes a word so that words reads it again, with specifiers and
// variables meant as they are: % and $ are doubled.
func quoteWord(s string) string {
	s = strings.NewReplacer("%", "%%", "$", "$$").Replace(s)
	plain := s != "" && s[0] != ';' && s[0] != '#' // at the begin of a line it would be a comment
	for i := 0; i < len(s) && plain; i++ {
		c := s[i]
		plain = c > ' ' && c < 0x7f && !strings.ContainsRune(`"'\`, rune(c))
	}
	if plain {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
