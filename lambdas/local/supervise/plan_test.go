package supervise

import (
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const wholeUnit = `[Unit]
Description=OriginChain
After=network-online.target
Wants=network-online.target

[Service]
Type=exec
User=originchain
LimitCORE=0
LimitMEMLOCK=infinity
ProtectHome=yes
ProtectSystem=strict
Environment="OC_REGION=eu-central-1" OC_DATA_DIR=/var/lib/a OC_NODE_ID=n0
WorkingDirectory=/var/lib/%N
ExecStart=/usr/local/bin/oc-server --mode writer \
  --node-id=n1 --region ${OC_REGION}
Restart=on-failure
RestartSec=1min 30s
TimeoutStopSec=20
KillSignal=SIGINT
KillMode=mixed
LimitNOFILE=1024:infinity

[Install]
WantedBy=multi-user.target
`

func TestPlanIsWhatTheUnitSays(t *testing.T) {
	p, err := readPlan("u", []byte(wholeUnit), "n1", map[string]string{"A": "1", "OC_REGION": "nowhere"})
	if err != nil {
		t.Fatal(err)
	}
	want := &plan{path: "/usr/local/bin/oc-server",
		argv: []string{"/usr/local/bin/oc-server", "--mode", "writer", "--node-id=n1", "--region", "eu-central-1"},
		env:  map[string]string{"A": "1", "OC_REGION": "eu-central-1", "OC_DATA_DIR": "/var/lib/a", "OC_NODE_ID": "n0"},
		dir:  "/var/lib/oc-http", restart: "on-failure", restartPause: 90 * time.Second, stopTimeout: 20 * time.Second, stopSignal: syscall.SIGINT,
		files: &limit{1024, ^uint64(0)}, ignored: []string{"User", "LimitCORE", "LimitMEMLOCK", "ProtectHome", "ProtectSystem"}}
	if diff := cmp.Diff(want, p, cmp.AllowUnexported(plan{}, limit{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for flag, want := range map[string]string{"node-id": "n1", "mode": "writer", "data-dir": "/var/lib/a", "other": ""} {
		if got := p.flag(flag); got != want {
			t.Errorf("--%s is %q, want %q", flag, got, want)
		}
	}
	p, err = readPlan("u", []byte("[Service]\nExecStart=/bin/a -- --node-id n1\n"), "n1", nil)
	if err != nil || p.restart != "no" || p.restartPause != defaultRestartPause || p.stopTimeout != defaultStopTimeout || p.stopSignal != syscall.SIGTERM || !p.stopGroup || p.dir != "/" || p.flag("node-id") != "" {
		t.Errorf("the defaults: %+v, %v", p, err)
	}
}

func TestWhatIsNotCarriedOutIsRefusedByName(t *testing.T) {
	for setting, word := range map[string]string{
		"ExecStartPre=/bin/true": "ExecStartPre", "ExecStop=/bin/true": "ExecStop", "ExecStopPost=/bin/a": "ExecStopPost", "Type=notify": "notify", "Type=forking": "forking",
		"Restart=on-watchdog": "on-watchdog", "WatchdogSec=3": "WatchdogSec", "StateDirectory=a": "StateDirectory", "RootDirectory=/a": "RootDirectory",
		"SuccessExitStatus=3": "SuccessExitStatus", "TimeoutStopSec=0": "TimeoutStopSec", "TimeoutStopSec=infinity": "TimeoutStopSec", "TimeoutStopSec=1fortnight": "fortnight",
		"RestartSec=25h": "RestartSec", "RestartSec=5 5x": "RestartSec", "RestartSec=-1": "RestartSec", "KillMode=process": "KillMode", "KillSignal=SIGKILL": "KillSignal", "LimitNOFILE=many": "LimitNOFILE",
		"LimitNOFILE=2:1": "LimitNOFILE", "WorkingDirectory=~": "WorkingDirectory", "WorkingDirectory=/%i": "WorkingDirectory", "PassEnvironment=HOME": "PassEnvironment",
		"EnvironmentFile=/does/not/exist": "/does/not/exist", "ExecStart=/bin/b": "ExecStart", "[Socket]\nListenStream=1": "ListenStream", "[Unit]\nConditionPathExists=/a": "ConditionPathExists",
		"[Unit]\nOnFailure=a.service": "OnFailure",
	} {
		_, err := readPlan("the-unit", []byte("[Service]\nExecStart=/bin/a\n"+setting+"\n"), "n1", nil)
		var refused *RefusedUnitError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), word) || !strings.Contains(err.Error(), "the-unit") {
			t.Errorf("%s: %v", setting, err)
		}
	}
	for _, command := range []string{"-/bin/a", "+/bin/a", "!/bin/a", "bin/a", "/bin/a %i"} {
		if _, err := readPlan("u", []byte("[Service]\nExecStart="+command+"\n"), "n1", nil); err == nil {
			t.Errorf("ExecStart=%s is taken", command)
		}
	}
	if p, err := readPlan("u", []byte("[Service]\nExecStart=/bin/a\nWorkingDirectory=-/does/not/exist\n"), "n1", nil); err != nil || p.dir != "/" {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestSpans(t *testing.T) {
	for text, want := range map[string]time.Duration{"5": 5 * time.Second, "1.5": 1500 * time.Millisecond, "500ms": 500 * time.Millisecond, "2min 3s": 123 * time.Second, "1h30m": 90 * time.Minute, "7 us": 7 * time.Microsecond, "0": 0} {
		if got, err := parseSpan(text); err != nil || got != want {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"x", "5 x", ".", "1e9", "23h 2h", "99999999999999999999"} {
		if got, err := parseSpan(text); err == nil {
			t.Errorf("%q is %s", text, got)
		}
	}
}

func TestPausesDoubleUpToALimit(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for failures, want := range map[int]time.Duration{1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 5: 1600 * time.Millisecond, 12: maxRestartPause, 5000: maxRestartPause} {
		seen := map[time.Duration]bool{}
		for range 100 {
			d := restartPause(100*time.Millisecond, failures, random)
			if seen[d] = true; d < want || d > want+want/4 {
				t.Errorf("after %d failures: %s, want from %s", failures, d, want)
			}
		}
		if len(seen) < 2 {
			t.Errorf("after %d failures it is always the same", failures)
		}
	}
	if d := restartPause(time.Hour, 9, random); d < time.Hour {
		t.Errorf("%s is less than the unit asks for", d)
	}
	if d := restartPause(0, 1, random); d <= 0 {
		t.Errorf("%s spins", d)
	}
}

func TestRestartOfTheUnit(t *testing.T) {
	ends := map[string]Exit{"clean": {}, "code": {Code: 1}, "term": {Code: -1, Signal: syscall.SIGTERM}, "kill": {Code: -1, Signal: syscall.SIGKILL}, "unstarted": {Err: os.ErrNotExist}}
	for restart, on := range map[string]string{"no": "", "always": "clean code term kill unstarted", "on-success": "clean term", "on-failure": "code kill unstarted", "on-abnormal": "kill", "on-abort": "kill"} {
		for name, e := range ends {
			if got, want := unitRestarts(restart, e), strings.Contains(on, name); got != want {
				t.Errorf("Restart=%s after %s: %t", restart, name, got)
			}
		}
	}
}
