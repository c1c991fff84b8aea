package sql

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"originchain/shared/fault"
)

// maxNesting bounds how deep a statement's tree can become. The parser and the
// planner walk the tree by recursion, and a Go stack that overflows ends the
// process, so depth is bounded on the tokens, before anything recurses. Operators
// count as parentheses do: a + b + c is a tree as deep as it has operators.
const maxNesting = 1000

// placeholderStyle is how a statement writes its parameters.
type placeholderStyle uint8

const (
	styleNone placeholderStyle = iota
	styleQuestion
	styleDollar
	styleNamed
)

func (s placeholderStyle) String() string {
	switch s {
	case styleQuestion:
		return "?"
	case styleDollar:
		return "$1"
	case styleNamed:
		return ":name"
	}
	return "none"
}

// lexed is a statement with its placeholders rewritten to :p1, :p2, …
type lexed struct {
	text  string
	style placeholderStyle
	// names are the parameters in order of :pN: a name, or the number that the
	// statement used.
	names []string
}

// deepening are the words that put what follows one level deeper.
var deepening = map[string]bool{
	"and": true, "or": true, "xor": true, "not": true, "div": true, "mod": true, "like": true, "in": true, "is": true,
	"between": true, "case": true, "collate": true, "binary": true, "interval": true, "exists": true, "regexp": true,
	"rlike": true, "escape": true, "union": true, "except": true, "intersect": true, "join": true, "select": true,
}

// lexer walks one statement. It knows strings, comments and quoted names, so a
// placeholder inside one of them is text.
type lexer struct {
	src   string
	pos   int
	out   strings.Builder
	done  int // src[:done] is in out
	style placeholderStyle
	names []string
	index map[string]int
	// depth is the nesting here; levels keeps, per open parenthesis, the depth
	// outside of it and at its start.
	depth  int
	base   int
	levels [][2]int
}

// lex checks the shape of a statement and rewrites its placeholders.
func lex(src string) (*lexed, error) {
	if !utf8.ValidString(src) {
		return nil, fault.New(fault.ValidationFailed, "the statement is not valid UTF-8")
	}
	l := &lexer{src: src, index: map[string]int{}}
	end, err := l.run()
	if err != nil {
		return nil, err
	}
	l.out.WriteString(src[l.done:end])
	return &lexed{text: l.out.String(), style: l.style, names: l.names}, nil
}

// run walks to the end and returns where the statement ends, its delimiter left out.
func (l *lexer) run() (end int, err error) {
	for l.pos < len(l.src) {
		c := l.src[l.pos]
		switch {
		case c == ';':
			end = l.pos
			l.pos++
			return end, l.nothingFollows()
		case c == '\'' || c == '"' || c == '`':
			err = l.quoted(c)
		case c == '#' || strings.HasPrefix(l.src[l.pos:], "--") || strings.HasPrefix(l.src[l.pos:], "/*"):
			_, err = l.comment()
		case isWordByte(c):
			l.word()
		case c == '.' || c == ' ' || c == '\t' || c == '\n' || c == '\r':
			l.pos++
		default:
			err = l.symbol(c)
		}
		if err != nil {
			return 0, err
		}
		if l.depth > maxNesting {
			return 0, fault.New(fault.ValidationFailed, "the statement is nested more than %d levels deep; use IN (…) for long lists of OR, or split it", maxNesting)
		}
	}
	return len(l.src), nil
}

func isWordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

func (l *lexer) word() {
	start := l.pos
	for l.pos < len(l.src) && (isWordByte(l.src[l.pos]) || l.src[l.pos] == '$') {
		l.pos++
	}
	if w := l.src[start:l.pos]; len(w) <= len("intersect") && deepening[strings.ToLower(w)] {
		l.depth++
	}
}

func (l *lexer) symbol(c byte) error {
	switch c {
	case '(':
		l.levels = append(l.levels, [2]int{l.base, l.depth})
		l.depth++
		l.base = l.depth
	case ')':
		if n := len(l.levels); n > 0 {
			l.base, l.depth = l.levels[n-1][0], l.levels[n-1][1]
			l.levels = l.levels[:n-1]
		}
	case ',':
		l.depth = l.base
	case '?':
		return l.placeholder(styleQuestion, strconv.Itoa(len(l.names)+1), l.pos, l.pos+1)
	case '$':
		return l.dollar()
	case ':':
		return l.colon()
	case '@':
		return fault.New(fault.Unsupported, "user variables and system variables (@name, @@name) are not available; send values as params")
	case '\\':
		return fault.New(fault.ValidationFailed, "unexpected \\ at byte %d of the statement", l.pos)
	default:
		l.depth++
	}
	l.pos++
	return nil
}

func (l *lexer) dollar() error {
	end := l.pos + 1
	for end < len(l.src) && l.src[end] >= '0' && l.src[end] <= '9' {
		end++
	}
	n, err := strconv.Atoi(l.src[l.pos+1 : end])
	if err != nil || n < 1 || n > maxParams {
		return fault.New(fault.ValidationFailed, "a $ at byte %d of the statement is not followed by a parameter number from 1 to %d", l.pos, maxParams)
	}
	return l.placeholder(styleDollar, strconv.Itoa(n), l.pos, end)
}

func (l *lexer) colon() error {
	end := l.pos + 1
	for end < len(l.src) && isWordByte(l.src[end]) {
		end++
	}
	name := l.src[l.pos+1 : end]
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		return fault.New(fault.ValidationFailed, "a : at byte %d of the statement is not followed by a parameter name", l.pos)
	}
	return l.placeholder(styleNamed, name, l.pos, end)
}

// placeholder replaces src[start:end] by the number of the parameter called name.
func (l *lexer) placeholder(style placeholderStyle, name string, start, end int) error {
	if l.style != styleNone && l.style != style {
		return fault.New(fault.ValidationFailed, "the statement mixes %s and %s parameters; use one style", l.style, style)
	}
	l.style = style
	n, ok := l.index[name]
	if !ok {
		if len(l.names) == maxParams {
			return fault.New(fault.ValidationFailed, "the statement has more than %d parameters; split it", maxParams)
		}
		l.names = append(l.names, name)
		n = len(l.names)
		l.index[name] = n
	}
	l.out.WriteString(l.src[l.done:start])
	l.out.WriteString(":" + bindName(n))
	l.pos, l.done = end, end
	return nil
}

// bindName is the name under which the planner knows parameter n.
func bindName(n int) string { return "p" + strconv.Itoa(n) }

// quoted passes over a string or a quoted name.
func (l *lexer) quoted(q byte) error {
	start := l.pos
	for l.pos++; l.pos < len(l.src); l.pos++ {
		switch {
		case l.src[l.pos] == '\\' && q != '`':
			l.pos++
		case l.src[l.pos] == q:
			if l.pos+1 < len(l.src) && l.src[l.pos+1] == q {
				l.pos++
				continue
			}
			l.pos++
			return nil
		}
	}
	return fault.New(fault.ValidationFailed, "the %c at byte %d of the statement is never closed", q, start)
}

// comment passes over a comment; ok is false when there is none here. A "--"
// that no space follows is two minus signs, as in a--1.
func (l *lexer) comment() (ok bool, err error) {
	rest := l.src[l.pos:]
	switch {
	case rest[0] == '#', strings.HasPrefix(rest, "--") && (len(rest) == 2 || rest[2] <= ' '):
		if i := strings.IndexByte(rest, '\n'); i >= 0 {
			l.pos += i + 1
		} else {
			l.pos = len(l.src)
		}
		return true, nil
	case strings.HasPrefix(rest, "/*!") || strings.HasPrefix(rest, "/*+"):
		return false, fault.New(fault.Unsupported, "comments that carry SQL (/*! … */) or hints (/*+ … */) are not available; write the SQL itself")
	case strings.HasPrefix(rest, "/*"):
		i := strings.Index(rest[2:], "*/")
		if i < 0 {
			return false, fault.New(fault.ValidationFailed, "the comment at byte %d of the statement is never closed", l.pos)
		}
		l.pos += i + 4
		return true, nil
	}
	l.depth += 2
	l.pos += 2
	return false, nil
}

// nothingFollows allows only space and comments after the delimiter.
func (l *lexer) nothingFollows() error {
	for l.pos < len(l.src) {
		switch c := l.src[l.pos]; {
		case c <= ' ' || c == ';':
			l.pos++
		case c == '#' || c == '-' || c == '/':
			if rest := l.src[l.pos:]; c == '/' && !strings.HasPrefix(rest, "/*") {
				return errManyStatements()
			} else if ok, err := l.comment(); err != nil || !ok {
				return errManyStatements()
			}
		default:
			return errManyStatements()
		}
	}
	return nil
}

func errManyStatements() error {
	return fault.New(fault.Unsupported, "a request carries exactly one statement; send each statement by itself, inside a transaction where they belong together")
}
