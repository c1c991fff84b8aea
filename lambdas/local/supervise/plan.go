package supervise

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"originchain/shared/unitfile"
)

// unitName is the one unit of a machine.
const unitName = "oc-http.service"

const (
	// defaultStopTimeout and defaultRestartPause are systemd's.
	defaultStopTimeout  = 90 * time.Second
	defaultRestartPause = 100 * time.Millisecond
)

// plan is what a unit says, as far as it is carried out here.
type plan struct {
	path string
	argv []string
	env  map[string]string
	dir  string
	// restart is the unit's Restart=.
	restart      string
	restartPause time.Duration
	stopTimeout  time.Duration
	stopSignal   syscall.Signal
	// stopGroup: the signal goes to all processes of the unit, not to the main one only.
	stopGroup bool
	// files is the limit of open files; nil leaves it.
	files *limit
	// ignored are settings that have no effect here, and do no harm.
	ignored []string
}

type limit struct{ soft, hard uint64 }

// RefusedUnitError says that a unit asks for what cannot be done here.
type RefusedUnitError struct {
	File string
	Err  error
}

// Error implements error.
func (e *RefusedUnitError) Error() string {
	return fmt.Sprintf("the unit %s is refused: %v", e.File, e.Err)
}

// Unwrap gives the cause.
func (e *RefusedUnitError) Unwrap() error { return e.Err }

// carriedOut are the settings of [Service] that have their effect.
func carriedOut() []string {
	return []string{"Type", "ExecStart", "Environment", "EnvironmentFile", "UnsetEnvironment", "PassEnvironment", "WorkingDirectory",
		"Restart", "RestartSec", "TimeoutStopSec", "KillMode", "KillSignal", "LimitNOFILE"}
}

// harmless are the settings of [Service] that are left out: they say as whom a process
// runs, what it may not do and how much it may take, which matters on a server.
func harmless() (names, prefixes []string) {
	return []string{"User", "Group", "SupplementaryGroups", "UMask", "Nice", "OOMScoreAdjust", "OOMPolicy", "NoNewPrivileges", "LockPersonality",
			"AmbientCapabilities", "CapabilityBoundingSet", "ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "DevicePolicy", "RemoveIPC",
			"StandardInput", "StandardOutput", "StandardError", "SyslogIdentifier", "TimeoutStartSec", "ExecReload", "Slice", "Delegate", "TasksMax", "KeyringMode"},
		[]string{"Protect", "Private", "Restrict", "SystemCall", "IOScheduling", "IOWeight", "CPU", "Memory", "LogRateLimit", "IPAddress"}
}

// readPlan reads a unit for a machine. base are the variables that every process has.
func readPlan(file string, text []byte, machine string, base map[string]string) (*plan, error) {
	refuse := func(err error) (*plan, error) { return nil, &RefusedUnitError{File: file, Err: err} }
	f, err := unitfile.Parse(file, text)
	if err != nil {
		return refuse(err)
	}
	p := &plan{}
	if err := p.known(f); err != nil {
		return refuse(err)
	}
	specifiers := map[byte]string{'n': unitName, 'N': "oc-http", 'p': "oc-http", 'H': machine}
	if err := p.command(f, specifiers, base); err != nil {
		return refuse(err)
	}
	return p, wrapRefused(file, errors.Join(p.ending(f), p.restarting(f), p.place(f, specifiers), p.limits(f)))
}

func wrapRefused(file string, err error) error {
	if err == nil {
		return nil
	}
	return &RefusedUnitError{File: file, Err: err}
}

// known sorts the settings into those carried out, ignored, and refused by name.
func (p *plan) known(f *unitfile.File) error {
	names, prefixes := harmless()
	var faults []error
	for _, e := range f.Entries() {
		name := e.Section + "." + e.Key
		prefixed := slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(e.Key, prefix) })
		switch {
		case e.Section == "Install", e.Section == "Unit" && unitHarmless(e.Key), strings.HasPrefix(e.Section, "X-"):
		case e.Section == "Service" && slices.Contains(carriedOut(), e.Key):
		case e.Section == "Service" && (slices.Contains(names, e.Key) || prefixed || strings.HasPrefix(e.Key, "Limit")):
			if !slices.Contains(p.ignored, e.Key) {
				p.ignored = append(p.ignored, e.Key)
			}
		default:
			faults = append(faults, fmt.Errorf("line %d: %s is not carried out here, and leaving it out could change what runs; take it out of the unit", e.Line, name))
		}
	}
	return errors.Join(faults...)
}

// unitHarmless are settings of [Unit] about order and words, which mean nothing where a
// machine has one unit.
func unitHarmless(key string) bool {
	return slices.Contains([]string{"Description", "Documentation", "After", "Before", "Wants", "StartLimitIntervalSec", "StartLimitBurst"}, key)
}

func (p *plan) command(f *unitfile.File, specifiers map[byte]string, base map[string]string) error {
	switch t := f.Value("Service", "Type"); t {
	case "", "simple", "exec":
	default:
		return fmt.Errorf("Type=%s: only simple and exec are carried out here", t)
	}
	c, err := f.Command()
	if err != nil {
		return err
	}
	if strings.Contains(c.Prefix, "-") {
		return errors.New("ExecStart begins with -, which makes a failure a success; take it away")
	}
	own, err := f.Environment(specifiers, os.ReadFile)
	if err != nil {
		return err
	}
	p.env = make(map[string]string, len(base)+len(own))
	for _, from := range []map[string]string{base, own} {
		for k, v := range from {
			p.env[k] = v
		}
	}
	p.path, p.argv, err = c.Argv(p.env, specifiers)
	return err
}

func (p *plan) ending(f *unitfile.File) (err error) {
	switch mode := f.Value("Service", "KillMode"); mode {
	case "", "control-group":
		p.stopGroup = true
	case "mixed":
	default:
		return fmt.Errorf("KillMode=%s leaves processes behind; use control-group or mixed", mode)
	}
	switch sig := f.Value("Service", "KillSignal"); sig {
	case "", "SIGTERM", "15":
		p.stopSignal = syscall.SIGTERM
	case "SIGINT", "2":
		p.stopSignal = syscall.SIGINT
	default:
		return fmt.Errorf("KillSignal=%s: only SIGTERM and SIGINT are carried out here", sig)
	}
	p.stopTimeout, err = span(f, "TimeoutStopSec", defaultStopTimeout)
	if err == nil && p.stopTimeout == 0 {
		err = errors.New("TimeoutStopSec=0 lets a process that does not stop run for ever; give it a time")
	}
	return err
}

func (p *plan) restarting(f *unitfile.File) (err error) {
	p.restart = f.Value("Service", "Restart")
	if p.restart == "" {
		p.restart = "no"
	}
	if !slices.Contains([]string{"no", "always", "on-success", "on-failure", "on-abnormal", "on-abort"}, p.restart) {
		return fmt.Errorf("Restart=%s is not carried out here", p.restart)
	}
	p.restartPause, err = span(f, "RestartSec", defaultRestartPause)
	return err
}

func (p *plan) place(f *unitfile.File, specifiers map[byte]string) error {
	value := f.Value("Service", "WorkingDirectory")
	dir, err := unitfile.Resolve(strings.TrimPrefix(value, "-"), specifiers)
	switch {
	case err != nil:
		return fmt.Errorf("WorkingDirectory: %w", err)
	case value == "":
		p.dir = "/"
		return nil
	case !strings.HasPrefix(dir, "/"):
		return fmt.Errorf("WorkingDirectory=%s is no absolute path", value)
	}
	if p.dir = dir; strings.HasPrefix(value, "-") {
		if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
			p.dir = "/"
		}
	}
	return nil
}

func (p *plan) limits(f *unitfile.File) error {
	value := f.Value("Service", "LimitNOFILE")
	if value == "" {
		return nil
	}
	soft, hard, two := strings.Cut(value, ":")
	if !two {
		hard = soft
	}
	var l limit
	for _, part := range []struct {
		text string
		to   *uint64
	}{{soft, &l.soft}, {hard, &l.hard}} {
		if part.text == "infinity" {
			*part.to = ^uint64(0)
			continue
		}
		n, err := strconv.ParseUint(part.text, 10, 64)
		if err != nil {
			return fmt.Errorf("LimitNOFILE=%s is no number of files, nor soft:hard", value)
		}
		*part.to = n
	}
	if l.soft > l.hard {
		return fmt.Errorf("LimitNOFILE=%s: the soft limit is above the hard one", value)
	}
	p.files = &l
	return nil
}

// flag is the value of a flag of the command, or of the variable that stands for it.
func (p *plan) flag(name string) string {
	found := p.env["OC_"+strings.ToUpper(strings.ReplaceAll(name, "-", "_"))]
	for i, arg := range p.argv {
		if i == 0 {
			continue
		}
		if arg == "--" {
			break
		}
		if value, ok := strings.CutPrefix(arg, "--"+name+"="); ok {
			found = value
		} else if arg == "--"+name && i+1 < len(p.argv) {
			found = p.argv[i+1]
		}
	}
	return found
}

// span reads a time span of systemd.time(7).
func span(f *unitfile.File, key string, otherwise time.Duration) (time.Duration, error) {
	value := f.Value("Service", key)
	if value == "" {
		return otherwise, nil
	}
	d, err := parseSpan(value)
	if err != nil {
		return 0, fmt.Errorf("%s=%s: %w", key, value, err)
	}
	return d, nil
}

// maxSpan bounds what a unit may ask for.
const maxSpan = 24 * time.Hour

func parseSpan(value string) (total time.Duration, err error) {
	units := map[string]time.Duration{"": time.Second, "us": time.Microsecond, "ms": time.Millisecond, "s": time.Second, "sec": time.Second, "second": time.Second,
		"seconds": time.Second, "m": time.Minute, "min": time.Minute, "minute": time.Minute, "minutes": time.Minute, "h": time.Hour, "hr": time.Hour, "hour": time.Hour, "hours": time.Hour}
	rest := strings.TrimSpace(value)
	for rest != "" {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789."))
		n, err := strconv.ParseFloat(rest[:digits], 64)
		if err != nil {
			return 0, errors.New("it is no time span such as 5, 500ms or 1min 30s")
		}
		rest = strings.TrimLeft(rest[digits:], " ")
		letters := len(rest) - len(strings.TrimLeft(rest, "abcdefghijklmnopqrstuvwxyz"))
		unit, ok := units[rest[:letters]]
		if !ok {
			return 0, fmt.Errorf("%q is no unit of time known here", rest[:letters])
		}
		rest = strings.TrimLeft(rest[letters:], " ")
		if n > float64(maxSpan)/float64(unit) {
			return 0, fmt.Errorf("it is more than %s", maxSpan)
		}
		total += time.Duration(n * float64(unit))
	}
	if total > maxSpan {
		return 0, fmt.Errorf("it is more than %s", maxSpan)
	}
	return total, nil
}
