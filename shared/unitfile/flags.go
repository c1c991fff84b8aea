package unitfile

import (
	"fmt"
	"slices"
	"strings"
)

// Flag is one flag of a command.
type Flag struct {
	Name string
	// Value is "" for a switch that stands alone.
	Value string
	// words are where it stands: --name=value is one, --name value two.
	words []int
}

// Flags reads the command's arguments as package pflag does. takesValue says of each
// flag whether the word behind it is its value, and false for one that is not known:
// then nobody can say what the words behind it are, and the command is refused.
func (c *Command) Flags(takesValue func(name string) (value, known bool)) (out []Flag, err error) {
	first := 1
	if strings.Contains(c.Prefix, "@") {
		first = 2
	}
	for i := first; i < len(c.Words); i++ {
		w := c.Words[i]
		if w == "--" {
			return out, nil
		}
		if !strings.HasPrefix(w, "--") {
			if strings.HasPrefix(w, "-") && w != "-" {
				return nil, fmt.Errorf("ExecStart has %q: only flags with two dashes are known", w)
			}
			if strings.HasPrefix(w, "$") {
				return nil, fmt.Errorf("ExecStart has %q, and its flags cannot be known without the environment; write them out", w)
			}
			continue
		}
		name, value, inline := strings.Cut(w[2:], "=")
		takes, known := takesValue(name)
		switch {
		case !known:
			return nil, fmt.Errorf("ExecStart has the flag --%s, which is not known", name)
		case inline || !takes:
			out = append(out, Flag{Name: name, Value: value, words: []int{i}})
		case i+1 == len(c.Words):
			return nil, fmt.Errorf("ExecStart ends in --%s, which needs a value", name)
		default:
			out = append(out, Flag{Name: name, Value: c.Words[i+1], words: []int{i, i + 1}})
			i++
		}
	}
	return out, nil
}

// Change is what is to become of a command's flags.
type Change struct {
	// Drop are names of flags to take away, wherever and however often they stand.
	Drop []string
	// Set are flags to have, each in place of any of its name: in order, name and value.
	Set []Setting
}

// Setting is a flag with its value; a switch has none.
type Setting struct{ Name, Value string }

// WithFlags returns the file with the flags of its command changed. A flag to be set
// that has its value already stays where it is, so that a second change is none.
func (f *File) WithFlags(change Change, takesValue func(name string) (value, known bool)) (*File, error) {
	c, err := f.Command()
	if err != nil {
		return nil, err
	}
	if slices.Contains(c.Words, "--") {
		return nil, fmt.Errorf("%s: ExecStart has --, behind which no flag can be added", f.name)
	}
	flags, err := c.Flags(takesValue)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.name, err)
	}
	var drop []int
	for _, flag := range flags {
		if slices.Contains(change.Drop, flag.Name) {
			drop = append(drop, flag.words...)
		}
	}
	var add []string
	for _, set := range change.Set {
		var have []Flag
		for _, flag := range flags {
			if flag.Name == set.Name {
				have = append(have, flag)
			}
		}
		if len(have) == 1 && have[0].Value == strings.NewReplacer("%", "%%", "$", "$$").Replace(set.Value) {
			continue
		}
		for _, flag := range have {
			drop = append(drop, flag.words...)
		}
		if takes, _ := takesValue(set.Name); takes {
			add = append(add, "--"+set.Name+"="+set.Value)
		} else {
			add = append(add, "--"+set.Name)
		}
	}
	if len(drop)+len(add) == 0 {
		return f, nil
	}
	return f.edit(c, drop, add)
}
