package layout

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"text/template"
)

// unitText is the unit of a node. Words with spaces or quotes are quoted as
// systemd.syntax(7) has it; each option is a line, so that a change is one.
const unitText = `[Unit]
Description=OriginChain {{.Node}} of instance {{.Instance}}
After=network-online.target

[Service]
Type=exec
WorkingDirectory={{.Directory}}
ExecStart={{.Binary}}{{range .Flags}} \
    {{.}}{{end}}
Restart=always
RestartSec=1
TimeoutStopSec=30

[Install]
WantedBy=multi-user.target
`

// Options are what nodes are started with besides what follows from the instance.
type Options struct {
	// Binary is the absolute path of oc-server.
	Binary string
	// SyncReplicas is --sync-replicas.
	SyncReplicas int
	// More flags go to every node, behind the others.
	More []string
}

// LeaseURL is the lease record as programs are told of it.
func (d Dir) LeaseURL(in *Instance) string { return d.leaseAt(in.LeaseAddress()) }

func (d Dir) leaseAt(host string) string {
	u := url.URL{Scheme: "http", Host: host, Path: "/v1/leases/" + LeaseName, RawQuery: url.Values{"token-file": {d.LeaseToken()}}.Encode()}
	return u.String()
}

// UnitText is the unit file of a node: the first one writes, the others follow it.
func (d Dir) UnitText(in *Instance, index int, o Options) ([]byte, error) {
	nodes := in.Registered()
	n := nodes[index]
	mode := []string{"--mode", "writer"}
	if index > 0 {
		mode = []string{"--mode", "follower", "--leader-addr", nodes[0].ReplicationAddress}
	}
	lease, own := d.LeaseURL(in), in.Nodes[index]
	if in.Gated() {
		lease = d.leaseAt(in.LeaseGate(own))
		mode = append(mode, "--replication-advertise", n.ReplicationAddress)
	}
	flags := append(mode,
		"--instance-id", in.ID, "--node-id", n.ID, "--region", Region, "--data-dir", d.Data(n.Machine), "--listen", in.at(n.Address, in.Port), "--advertise", n.URL,
		"--replication-listen", in.ReplicationListen(own), "--control", lease, "--sync-replicas", strconv.Itoa(o.SyncReplicas),
		"--archive", d.ArchiveURL(), "--tail-ship", "--admin-token-file", d.AdminToken())
	lines, err := quoted(append(flags, o.More...))
	if err != nil {
		return nil, err
	}
	// Of the program's path, variables are not a part.
	binary, err := word(o.Binary, "$$", "$")
	if err != nil {
		return nil, err
	}
	t, err := template.New("unit").Parse(unitText)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	err = t.Execute(&b, map[string]any{"Node": n.ID, "Instance": in.ID, "Directory": strings.ReplaceAll(string(d), "%", "%%"), "Binary": binary, "Flags": lines})
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
	for _, c := range s {
		if c < ' ' || c == 0x7f {
			return "", fmt.Errorf("%q has a control character, which no unit file can say", s)
		}
	}
	s = strings.NewReplacer("%", "%%", "$", "$$", `\`, `\\`, `"`, `\"`).Replace(s)
	s = strings.NewReplacer(undo...).Replace(s)
	if s == "" || strings.ContainsAny(s, " '\"\\;") {
		return `"` + s + `"`, nil
	}
	return s, nil
}
