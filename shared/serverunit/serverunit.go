// Package serverunit is the systemd unit of a node: the one text that oc-control writes
// for the nodes of one machine and that EC2 machines are given, so that what rewrites a
// unit in a failover meets the same form everywhere.
package serverunit

import (
	"fmt"
	"strings"
	"text/template"
	"time"
)

// text is the unit. Words with spaces or quotes are quoted as systemd.syntax(7) has it;
// each option is a line, so that a change is one.
const text = `[Unit]
Description=OriginChain {{.Node}} of instance {{.Instance}}
After=network-online.target
{{range .Unit.Dependencies}}{{.}}
{{end}}
[Service]
Type=exec
WorkingDirectory={{.Directory}}
ExecStart={{.Binary}}{{range .Flags}} \
    {{.}}{{end}}
Restart=always
RestartSec=1
TimeoutStopSec={{.StopSeconds}}
{{range .Unit.Settings}}{{.}}
{{end}}
[Install]
WantedBy=multi-user.target
`

// StopTimeout is the unit's TimeoutStopSec: how long a server has to end before it is killed.
const StopTimeout = 30 * time.Second

// Unit is what the service of a node is made of.
type Unit struct {
	// Node and Instance are ids, for the description.
	Node, Instance string
	// Directory is the working directory, Binary the program, both absolute.
	Directory, Binary string
	// Flags are words: a flag that begins with -- begins a line, its value follows.
	Flags []string
	// Dependencies and Settings are further lines of [Unit] and [Service], as they are.
	Dependencies, Settings []string
}

// Text is the unit file.
func (u *Unit) Text() ([]byte, error) {
	flags, err := quoted(u.Flags)
	if err != nil {
		return nil, err
	}
	// Of the program's path, variables are not a part.
	binary, err := word(u.Binary, "$$", "$")
	if err != nil {
		return nil, err
	}
	for _, line := range append(append([]string{u.Node, u.Instance, u.Directory}, u.Dependencies...), u.Settings...) {
		if err := printable(line); err != nil {
			return nil, err
		}
	}
	t, err := template.New("unit").Parse(text)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	err = t.Execute(&b, map[string]any{"Node": u.Node, "Instance": u.Instance, "Directory": strings.ReplaceAll(u.Directory, "%", "%%"),
		"Binary": binary, "Flags": flags, "Unit": u, "StopSeconds": int(StopTimeout.Seconds())})
	return []byte(b.String()), err
}

// quoted puts each flag on a line with its value.
func quoted(args []string) (lines []string, err error) {
	for _, a := range args {
		w, err := word(a)
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(a, "--") || len(lines) == 0 {
			lines = append(lines, w)
		} else {
			lines[len(lines)-1] += " " + w
		}
	}
	return lines, nil
}

// word is a text as one word of an ExecStart line; undo are pairs of what to put back.
func word(s string, undo ...string) (string, error) {
	if err := printable(s); err != nil {
		return "", err
	}
	s = strings.NewReplacer("%", "%%", "$", "$$", `\`, `\\`, `"`, `\"`).Replace(s)
	s = strings.NewReplacer(undo...).Replace(s)
	if s == "" || strings.ContainsAny(s, " '\"\\;") {
		return `"` + s + `"`, nil
	}
	return s, nil
}

func printable(s string) error {
	for _, c := range s {
		if c < ' ' || c == 0x7f {
			return fmt.Errorf("%q has a control character, which no unit file can say", s)
		}
	}
	return nil
}
