package systemctl

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

// What systemd takes where a unit says nothing.
const (
	defaultStopTimeout   = 90 * time.Second
	defaultRestartPause  = 100 * time.Millisecond
	defaultStartInterval = 10 * time.Second
	defaultStartBurst    = 5
)

// settings are what a loaded unit says.
type settings struct {
	fragment      string
	dropIns       []string
	command       *unitfile.Command
	file          *unitfile.File
	dir           string
	asserts       []string
	restart       string
	restartPause  time.Duration
	stopTimeout   time.Duration
	stopSignal    syscall.Signal
	killMode      string
	sendSIGKILL   bool
	startInterval time.Duration
	startBurst    int
	// oneshot is a service that is to end, and remains whether it is active then.
	oneshot, remains bool
	// timer says that the unit starts the service of its name: at first so long after it was
	// started, and again so long after each time, or never where that is 0.
	timer        bool
	first, again time.Duration
}

func known() (service, unit []string) {
	return []string{"Type", "RemainAfterExit", "ExecStart", "Environment", "EnvironmentFile", "UnsetEnvironment", "WorkingDirectory", "Restart", "RestartSec",
			"TimeoutStopSec", "KillMode", "KillSignal", "SendSIGKILL"},
		[]string{"Description", "Documentation", "After", "Before", "Wants", "Requires", "RequiresMountsFor", "AssertPathExists", "StartLimitIntervalSec", "StartLimitBurst"}
}

// harmless are settings of [Service] that change nothing of what is tried here.
func harmless(key string) bool {
	return slices.Contains([]string{"User", "Group", "UMask", "NoNewPrivileges", "LockPersonality", "CapabilityBoundingSet", "AmbientCapabilities",
		"ReadWritePaths", "ReadOnlyPaths", "OOMScoreAdjust", "TimeoutStartSec", "TasksMax", "StandardOutput", "StandardError", "SyslogIdentifier"}, key) ||
		slices.ContainsFunc([]string{"Protect", "Private", "Restrict", "SystemCall", "Limit", "Memory", "CPU", "IO", "LogRateLimit"},
			func(p string) bool { return strings.HasPrefix(key, p) })
}

// load reads a unit file with its drop-ins.
func load(fragment string, dropIns []string) (*settings, error) {
	s := &settings{fragment: fragment, dropIns: dropIns, dir: "/", sendSIGKILL: true, timer: strings.HasSuffix(fragment, ".timer")}
	text, err := os.ReadFile(fragment)
	if err != nil {
		return nil, err
	}
	if s.file, err = unitfile.Parse(fragment, text); err != nil {
		return nil, err
	}
	if err := s.check(s.file); err != nil {
		return nil, err
	}
	for _, path := range dropIns {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		f, err := unitfile.Parse(path, text)
		if err != nil {
			return nil, err
		}
		for _, e := range f.Entries() {
			if e.Section != "Unit" || e.Key != "AssertPathExists" {
				return nil, fmt.Errorf("%s:%d: drop-ins have AssertPathExists alone here", path, e.Line)
			}
			s.asserts = append(s.asserts, e.Value)
		}
	}
	return s, s.read(s.file)
}

func (s *settings) check(f *unitfile.File) error {
	service, unit := known()
	var faults []error
	for _, e := range f.Entries() {
		switch {
		case e.Section == "Install", !s.timer && e.Section == "Service" && (slices.Contains(service, e.Key) || harmless(e.Key)):
		case s.timer && e.Section == "Timer" && slices.Contains([]string{"OnActiveSec", "OnUnitActiveSec", "AccuracySec"}, e.Key):
		case e.Section == "Unit" && slices.Contains(unit, e.Key):
			if e.Key == "AssertPathExists" {
				s.asserts = append(s.asserts, e.Value)
			}
		default:
			faults = append(faults, fmt.Errorf("%s:%d: %s.%s is not known here", s.fragment, e.Line, e.Section, e.Key))
		}
	}
	return errors.Join(faults...)
}

func (s *settings) read(f *unitfile.File) (err error) {
	value := func(key, otherwise string) string {
		if v := f.Value("Service", key); v != "" {
			return v
		}
		return otherwise
	}
	if s.timer {
		if f.Value("Timer", "OnActiveSec") == "" {
			return fmt.Errorf("%s: a timer has OnActiveSec= here", s.fragment)
		}
		return errors.Join(span(&s.first, f.Value("Timer", "OnActiveSec"), 0), span(&s.again, f.Value("Timer", "OnUnitActiveSec"), 0))
	}
	if s.command, err = f.Command(); err != nil {
		return err
	}
	if t := value("Type", "simple"); t == "oneshot" {
		s.oneshot, s.remains = true, slices.Contains(yes(), value("RemainAfterExit", "no"))
	} else if t != "simple" && t != "exec" {
		return fmt.Errorf("%s: Type=%s is not known here", s.fragment, t)
	}
	s.dir = strings.TrimPrefix(value("WorkingDirectory", "/"), "-")
	if s.restart = value("Restart", "no"); !slices.Contains([]string{"no", "always", "on-failure"}, s.restart) {
		return fmt.Errorf("%s: Restart=%s is not known here", s.fragment, s.restart)
	}
	if s.killMode = value("KillMode", "control-group"); !slices.Contains([]string{"control-group", "mixed", "process"}, s.killMode) {
		return fmt.Errorf("%s: KillMode=%s is not known here", s.fragment, s.killMode)
	}
	s.sendSIGKILL = slices.Contains(yes(), value("SendSIGKILL", "yes"))
	s.stopSignal = syscall.SIGTERM
	if sig := value("KillSignal", "SIGTERM"); sig == "SIGINT" {
		s.stopSignal = syscall.SIGINT
	} else if sig != "SIGTERM" {
		return fmt.Errorf("%s: KillSignal=%s is not known here", s.fragment, sig)
	}
	s.startBurst, err = strconv.Atoi(or(f.Value("Unit", "StartLimitBurst"), strconv.Itoa(defaultStartBurst)))
	return errors.Join(err,
		span(&s.stopTimeout, value("TimeoutStopSec", ""), defaultStopTimeout),
		span(&s.restartPause, value("RestartSec", ""), defaultRestartPause),
		span(&s.startInterval, f.Value("Unit", "StartLimitIntervalSec"), defaultStartInterval))
}

func yes() []string { return []string{"yes", "true", "on", "1"} }

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// span reads seconds, or what Go reads as a duration.
func span(out *time.Duration, text string, otherwise time.Duration) error {
	if *out = otherwise; text == "" {
		return nil
	}
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		*out = time.Duration(n * float64(time.Second))
		return nil
	}
	d, err := time.ParseDuration(strings.ReplaceAll(strings.ReplaceAll(text, " ", ""), "min", "m"))
	*out = d
	return err
}

// asserted says which assertion does not hold; "" if all do.
func (s *settings) asserted() string {
	for _, a := range s.asserts {
		path, not := strings.CutPrefix(a, "!")
		if _, err := os.Stat(path); (err == nil) == not {
			return "AssertPathExists=" + a
		}
	}
	return ""
}
