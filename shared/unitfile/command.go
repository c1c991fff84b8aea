package unitfile

import (
	"fmt"
	"slices"
	"strings"
)

// Command is what a service runs.
type Command struct {
	// Prefix are the characters in front of the path: - @ : + ! |.
	Prefix string
	// Words are path and arguments, unquoted; variables and specifiers are as written.
	Words []string

	setting setting
	words   []word
}

// Command returns the service's one ExecStart. A unit with none, or with several
// commands (as Type=oneshot may have), is refused.
func (f *File) Command() (*Command, error) {
	found := f.list("Service", "ExecStart")
	if len(found) != 1 {
		return nil, &SyntaxError{File: f.name, Line: 1, What: fmt.Sprintf("the unit has %d commands in ExecStart, want one", len(found))}
	}
	s := found[0]
	bad := func(what string) error { return &SyntaxError{File: f.name, Line: s.line, What: "ExecStart: " + what} }
	ws, err := words(s.value)
	if err != nil {
		return nil, bad(err.Error())
	}
	c := &Command{setting: s, words: ws}
	for _, w := range ws {
		if w.text == ";" && !w.quoted {
			return nil, bad("several commands in one setting, want one")
		}
		c.Words = append(c.Words, w.text)
	}
	path := strings.TrimLeft(c.Words[0], "-@:+!|")
	c.Prefix, c.Words[0] = c.Words[0][:len(c.Words[0])-len(path)], path
	if !strings.HasPrefix(path, "/") {
		return nil, bad(fmt.Sprintf("%q is no absolute path", path))
	}
	return c, nil
}

// Argv is what the service manager would start: the path, and the arguments with
// argument 0. Variables come from env, specifiers from specifiers by their letter.
// A prefix that changes privileges is refused.
func (c *Command) Argv(env map[string]string, specifiers map[byte]string) (path string, args []string, err error) {
	if i := strings.IndexAny(c.Prefix, "+!|"); i >= 0 {
		return "", nil, fmt.Errorf("ExecStart begins with %q, which changes privileges or runs a shell: only a service manager can do that", c.Prefix[i])
	}
	in, err := specify(c.Words, specifiers)
	if err != nil {
		return "", nil, err
	}
	path, rest := in[0], in[1:]
	args = []string{path}
	if strings.Contains(c.Prefix, "@") {
		if len(rest) == 0 {
			return "", nil, fmt.Errorf("ExecStart begins with @ and has no name for argument 0")
		}
		args, rest = []string{rest[0]}, rest[1:]
	}
	if strings.Contains(c.Prefix, ":") {
		return path, append(args, rest...), nil
	}
	for _, w := range rest {
		more, err := substitute(w, env)
		if err != nil {
			return "", nil, err
		}
		args = append(args, more...)
	}
	return path, args, nil
}

// Resolve resolves the % specifiers of a value that is no list of words.
func Resolve(value string, specifiers map[byte]string) (string, error) {
	out, err := specify([]string{value}, specifiers)
	if err != nil {
		return "", err
	}
	return out[0], nil
}

// specify resolves % specifiers.
func specify(in []string, specifiers map[byte]string) ([]string, error) {
	out := make([]string, 0, len(in))
	for _, w := range in {
		var b strings.Builder
		for i := 0; i < len(w); i++ {
			if w[i] != '%' {
				b.WriteByte(w[i])
				continue
			}
			if i++; i == len(w) {
				return nil, fmt.Errorf("%q ends in a lone %%; write %%%%", w)
			}
			s, ok := specifiers[w[i]]
			switch {
			case w[i] == '%':
				s = "%"
			case !ok:
				return nil, fmt.Errorf("%q has the specifier %%%c, which is not known here", w, w[i])
			}
			b.WriteString(s)
		}
		out = append(out, b.String())
	}
	return out, nil
}

// substitute puts variables into one argument: $NAME alone becomes as many as its
// value has words, ${NAME} a part of the argument, $$ a dollar.
func substitute(w string, env map[string]string) ([]string, error) {
	if len(w) > 1 && w[0] == '$' && w[1] != '{' && w[1] != '$' {
		value, err := words([]byte(env[w[1:]]))
		if err != nil {
			return nil, fmt.Errorf("the variable %s: %w", w[1:], err)
		}
		out := make([]string, 0, len(value))
		for _, v := range value {
			out = append(out, v.text)
		}
		return out, nil
	}
	var b strings.Builder
	for i := 0; i < len(w); i++ {
		switch {
		case strings.HasPrefix(w[i:], "$$"):
			b.WriteByte('$')
			i++
		case strings.HasPrefix(w[i:], "${"):
			end := strings.IndexByte(w[i:], '}')
			if end < 0 {
				return nil, fmt.Errorf("%q has a ${ that is not closed", w)
			}
			b.WriteString(env[w[i+2:i+end]])
			i += end
		default:
			b.WriteByte(w[i])
		}
	}
	return []string{b.String()}, nil
}

// edit returns the file with a command that lacks the words drop and ends in add,
// which are literal: no variable, no specifier. Everything else keeps its bytes.
func (f *File) edit(c *Command, drop []int, add []string) (*File, error) {
	text := slices.Clone(f.text)
	cut := slices.Sorted(slices.Values(drop))
	text = slices.Insert(text, c.setting.end, []byte(addition(add))...)
	for _, i := range slices.Backward(cut) {
		w := c.words[i]
		text = cutWord(text, c.setting.at[w.from], c.setting.at[w.to-1]+1)
	}
	out, err := Parse(f.name, text)
	if err != nil {
		return nil, err
	}
	// A unit that says something else than was meant would be found at the next boot.
	return out, out.says(c, cut, add)
}

func addition(add []string) string {
	var b strings.Builder
	for _, w := range add {
		b.WriteString(" " + quoteWord(w))
	}
	return b.String()
}

// cutWord takes a word out, with the blanks before it, and with its line if nothing
// else is on it and the setting goes on behind it.
func cutWord(text []byte, from, to int) []byte {
	begin := from
	for begin > 0 && (text[begin-1] == ' ' || text[begin-1] == '\t') {
		begin--
	}
	end := to
	for end < len(text) && (text[end] == ' ' || text[end] == '\t') {
		end++
	}
	if (begin == 0 || text[begin-1] == '\n') && end < len(text) && text[end] == '\\' {
		if end++; end < len(text) && text[end] == '\r' {
			end++
		}
		if end < len(text) && text[end] == '\n' {
			return slices.Delete(text, begin, end+1)
		}
	}
	return slices.Delete(text, begin, to)
}

// says checks that the file's command is c without the words cut and with add.
func (f *File) says(c *Command, cut []int, add []string) error {
	got, err := f.Command()
	if err != nil {
		return err
	}
	var want []string
	for i, w := range c.Words {
		if !slices.Contains(cut, i) {
			want = append(want, w)
		}
	}
	escaped := strings.NewReplacer("%", "%%", "$", "$$")
	for _, w := range add {
		want = append(want, escaped.Replace(w))
	}
	if got.Prefix != c.Prefix || !slices.Equal(got.Words, want) {
		return fmt.Errorf("%s: rewriting ExecStart gave %q, want %q; the file was not changed. Write the command on one line", f.name, got.Words, want)
	}
	return nil
}
