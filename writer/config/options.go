package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// envPrefix begins the environment variable of every option.
const envPrefix = "OC_"

// option is one row of the table: a flag, its environment variable, its place
// in Config. Help, parsing, --print-config and the tests range over the table.
type option struct {
	name string
	// kind is what the value is, for help.
	kind  string
	def   string
	usage string
	set   func(*Config, string) error
	get   func(*Config) string
}

// env is the option's environment variable.
func (o *option) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(o.name, "-", "_"))
}

// options is the table. Secrets are files: no option holds one, so that neither
// a process list nor --print-config shows any.
func options() []option {
	return []option{
		text("mode", "role", ModeWriter, "role of this node: writer, or follower of one", func(c *Config) *string { return &c.Mode }),
		text("data-dir", "dir", "", "directory of log and state (required)", func(c *Config) *string { return &c.DataDir }),
		text("listen", "host:port", "127.0.0.1:7400", "address of the API", func(c *Config) *string { return &c.Listen }),
		text("ops-listen", "host:port", "", "address of /health, /ready and /metrics, in plain HTTP (default: served at --listen)", func(c *Config) *string { return &c.OpsListen }),
		text("instance-id", "ulid", "", "instance the data directory must be of (default: the directory's own, made when it is new)", func(c *Config) *string { return &c.InstanceID }),
		text("node-id", "name", "", "name of this node (default: the directory's own, made when it is new)", func(c *Config) *string { return &c.NodeID }),
		text("region", "name", "local", "region this node runs in, in logs and oc_node_info", func(c *Config) *string { return &c.Region }),
		text("advertise", "url", "", "URL clients reach this node under: what followers name when they refuse a write, and GET /v1/topology", func(c *Config) *string { return &c.Advertise }),
		text("replication-listen", "host:port", "", "address that followers stream from (default: none)", func(c *Config) *string { return &c.ReplicationListen }),
		text("replication-advertise", "host:port", "", "address that the record of --control tells followers to stream from, where it is not that of --replication-listen: behind a relay or a translated address", func(c *Config) *string { return &c.ReplicationAdvertise }),
		text("replication-tls-dir", "dir", "", "directory of ca.crt, node.crt and node.key, which nodes show each other; without it replication stays on loopback", func(c *Config) *string { return &c.ReplicationTLSDir }),
		text("leader-addr", "host:port", "", "address a follower streams from, unless --control says otherwise", func(c *Config) *string { return &c.LeaderAddr }),
		text("control", "url", "", "record of who writes and who is in sync, such as file:///var/lib/originchain/control, or dynamodb://table/name (default: the data directory alone decides)", func(c *Config) *string { return &c.Control }),
		count("sync-replicas", "0", "followers that must have a write on disk before it is acknowledged", func(c *Config) *int { return &c.SyncReplicas }),
		count("sync-timeout-ms", "1000", "milliseconds an acknowledgement waits for a follower before that leaves the in-sync set", func(c *Config) *int { return &c.SyncTimeoutMS }),
		flag("sync-strict", "refuse writes that fewer than --sync-replicas followers have, instead of marking them degraded", func(c *Config) *bool { return &c.SyncStrict }),
		number("follower-retain-bytes", "bytes", "4294967296", "log kept for followers that are behind; beyond it they take a checkpoint", func(c *Config) *int64 { return &c.FollowerRetainBytes }),
		duration("apply-delay", "0s", "how much later than the writer a follower shows a write; its log has it at once", func(c *Config) *time.Duration { return &c.ApplyDelay }),
		text("archive", "url", "", "object store of log and checkpoints, such as file:///srv/archive or s3://bucket/prefix (default: none)", func(c *Config) *string { return &c.Archive }),
		flag("allow-cross-region", "let the archive be in another region than --region", func(c *Config) *bool { return &c.AllowCrossRegion }),
		flag("tail-ship", "ship the bytes of the open segment too, every --tail-window-ms", func(c *Config) *bool { return &c.TailShip }),
		count("tail-window-ms", "500", "milliseconds between two shipments of the open segment", func(c *Config) *int { return &c.TailWindowMS }),
		duration("checkpoint-interval", "1h0m0s", "how often a checkpoint of the state goes to the archive", func(c *Config) *time.Duration { return &c.CheckpointInterval }),
		duration("retention", "720h0m0s", "for how long every moment stays restorable from the archive", func(c *Config) *time.Duration { return &c.Retention }),
		number("segment-bytes", "bytes", "67108864", "size at which a log segment is rolled", func(c *Config) *int64 { return &c.SegmentBytes }),
		duration("segment-max-age", "1m0s", "age at which a log segment with data is rolled", func(c *Config) *time.Duration { return &c.SegmentMaxAge }),
		text("tls-cert", "file", "", "PEM certificate chain; read again when it changes and on SIGHUP", func(c *Config) *string { return &c.TLSCert }),
		text("tls-key", "file", "", "PEM private key of --tls-cert", func(c *Config) *string { return &c.TLSKey }),
		text("tls-ca", "file", "", "PEM authorities; clients must show a certificate that one of them signed", func(c *Config) *string { return &c.TLSCA }),
		text("admin-token-file", "file", "", "file with the admin token, mode 0600 (default: <data-dir>/admin.token, made when it is not there)", func(c *Config) *string { return &c.AdminTokenFile }),
		text("log-level", "level", "info", "debug, info, warning or error", func(c *Config) *string { return &c.LogLevel }),
		duration("drain-timeout", "20s", "how long requests in flight may go on after SIGTERM", func(c *Config) *time.Duration { return &c.DrainTimeout }),
		duration("slow-request", "1s", "time from which a request is logged", func(c *Config) *time.Duration { return &c.SlowRequest }),
		duration("statement-timeout", "5m0s", "how long an SQL statement may run, the building of an index excepted; 0 is no limit", func(c *Config) *time.Duration { return &c.StatementTimeout }),
		count("max-connections", "16384", "client connections at the same time", func(c *Config) *int { return &c.MaxConnections }),
		count("max-in-flight", "4096", "requests at the same time", func(c *Config) *int { return &c.MaxInFlight }),
	}
}

func text(name, kind, def, usage string, at func(*Config) *string) option {
	return option{name: name, kind: kind, def: def, usage: usage,
		set: func(c *Config, v string) error { *at(c) = v; return nil },
		get: func(c *Config) string { return *at(c) }}
}

func number(name, kind, def, usage string, at func(*Config) *int64) option {
	return option{name: name, kind: kind, def: def, usage: usage,
		set: func(c *Config, v string) (err error) {
			*at(c), err = strconv.ParseInt(v, 10, 64)
			return plainly(err, "is not a whole number")
		},
		get: func(c *Config) string { return strconv.FormatInt(*at(c), 10) }}
}

func count(name, def, usage string, at func(*Config) *int) option {
	return option{name: name, kind: "n", def: def, usage: usage,
		set: func(c *Config, v string) (err error) {
			*at(c), err = strconv.Atoi(v)
			return plainly(err, "is not a whole number")
		},
		get: func(c *Config) string { return strconv.Itoa(*at(c)) }}
}

func flag(name, usage string, at func(*Config) *bool) option {
	return option{name: name, kind: "bool", def: "false", usage: usage,
		set: func(c *Config, v string) (err error) {
			*at(c), err = strconv.ParseBool(v)
			return plainly(err, "is neither true nor false")
		},
		get: func(c *Config) string { return strconv.FormatBool(*at(c)) }}
}

func duration(name, def, usage string, at func(*Config) *time.Duration) option {
	return option{name: name, kind: "duration", def: def, usage: usage,
		set: func(c *Config, v string) (err error) {
			*at(c), err = time.ParseDuration(v)
			return plainly(err, "is not a duration such as 90s or 1h30m")
		},
		get: func(c *Config) string { return at(c).String() }}
}

// plainly puts a parser's complaint into an operator's words.
func plainly(err error, words string) error {
	if err != nil {
		return errors.New(words)
	}
	return nil
}

// given is a flag's value as it was typed. It takes any text, so that a bad
// value is one fault among the others and not the end of parsing.
type given struct {
	kind, text string
	typed      bool
}

// Set implements pflag.Value.
func (g *given) Set(v string) error { g.text, g.typed = v, true; return nil }

// String implements pflag.Value.
func (g *given) String() string { return g.text }

// Type implements pflag.Value.
func (g *given) Type() string { return g.kind }

// Flags are the options as flags of a command.
type Flags struct {
	options []option
	values  []*given
	flags   []*pflag.Flag
}

// Register adds a flag per option to set.
func Register(set *pflag.FlagSet) *Flags {
	all := &Flags{options: options()}
	for i := range all.options {
		o := &all.options[i]
		v := &given{kind: o.kind, text: o.def}
		all.values = append(all.values, v)
		f := set.VarPF(v, o.name, "", o.usage+" ["+o.env()+"]")
		if o.kind == "bool" {
			f.NoOptDefVal = "true" // --sync-strict alone
		}
		all.flags = append(all.flags, f)
	}
	return all
}

// SetDefault is for a command of which an option has another default.
func (f *Flags) SetDefault(name, value string) {
	for i := range f.options {
		if f.options[i].name == name {
			f.options[i].def, f.values[i].text = value, value
			f.flags[i].DefValue = value
		}
	}
}

// Known says of a flag of a node's command whether it takes a value, and whether there is one
// of that name.
func Known() func(name string) (takesValue, known bool) {
	set := pflag.NewFlagSet("", pflag.ContinueOnError)
	Register(set)
	return func(name string) (takesValue, known bool) {
		f := set.Lookup(name)
		return f != nil && f.NoOptDefVal == "", f != nil
	}
}

// Resolve makes the configuration of flags, environment and defaults, in this
// order of precedence; an empty environment variable counts as unset. The
// faults are all there are, of single values and of their combination.
func (f *Flags) Resolve(lookupEnv func(string) (string, bool)) (Config, []string) {
	var c Config
	var faults []string
	for i := range f.options {
		o, v := &f.options[i], f.values[i]
		value, source := v.text, "--"+o.name
		if env, ok := lookupEnv(o.env()); ok && env != "" && !v.typed {
			value, source = env, o.env()
		}
		if err := o.set(&c, value); err != nil {
			faults = append(faults, fmt.Sprintf("%s %q %v", source, value, err))
			_ = o.set(&c, o.def) // a default is right; it keeps one fault from being reported twice
		}
	}
	c.complete()
	return c, append(faults, c.Validate()...)
}

// JSON is the configuration as --print-config shows it: an object by option
// name, in the order of the table. It holds no secret, since no option does.
func (c *Config) JSON() ([]byte, error) {
	var b bytes.Buffer
	for i, o := range options() {
		value, err := json.Marshal(o.get(c))
		if err != nil {
			return nil, fmt.Errorf("print %s: %w", o.name, err)
		}
		fmt.Fprintf(&b, "%s\n  %q: %s", map[bool]string{true: "{", false: ","}[i == 0], o.name, value)
	}
	b.WriteString("\n}\n")
	return b.Bytes(), nil
}
