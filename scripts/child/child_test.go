package child

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// program writes a shell script that stands for a server.
func program(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "server")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestServerThatEndsEarlyIsAnErrorWithItsLastWords(t *testing.T) {
	s, err := Start(Options{Binary: program(t, `echo "args: $*"; echo "no such disk" >&2; exit 3`), DataDir: "/data", Listen: "127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	var ended *ExitError
	if err := s.WaitReady(t.Context()); !errors.As(err, &ended) || ended.Code != 3 {
		t.Fatalf("%v", err)
	}
	for _, want := range []string{"no such disk", "--data-dir /data --listen 127.0.0.1:1"} {
		if !strings.Contains(ended.Error(), want) {
			t.Errorf("%q is not in: %s", want, ended)
		}
	}
}

// What a shell exports must not set the server's options.
func TestOptionsOfTheCallersEnvironmentAreLeftOut(t *testing.T) {
	t.Setenv("OC_LISTEN", "0.0.0.0:1")
	s, err := Start(Options{Binary: program(t, `echo "listen=$OC_LISTEN region=$OC_REGION"`), Env: []string{"OC_REGION=here"}})
	if err != nil {
		t.Fatal(err)
	}
	<-s.Exited()
	if got := strings.TrimSpace(s.Output()); got != "listen= region=here" {
		t.Error(got)
	}
}

func TestStopReportsTheExitCode(t *testing.T) {
	for script, want := range map[string]int{
		`trap 'exit 0' TERM; echo up; while :; do sleep 0.02; done`: 0,
		`trap 'exit 5' TERM; echo up; while :; do sleep 0.02; done`: 5,
	} {
		up := make(announced, 1)
		s, err := Start(Options{Binary: program(t, script), Output: up})
		if err != nil {
			t.Fatal(err)
		}
		<-up
		err = s.Stop(t.Context())
		var ended *ExitError
		if want == 0 && err != nil || want != 0 && (!errors.As(err, &ended) || ended.Code != want) {
			t.Errorf("want code %d: %v", want, err)
		}
		if err := s.Kill(); err != nil {
			t.Errorf("killing what has ended: %v", err)
		}
	}
}

// announced takes note of a first write.
type announced chan struct{}

func (a announced) Write(p []byte) (int, error) {
	select {
	case a <- struct{}{}:
	default:
	}
	return len(p), nil
}

func TestOnlyTheEndOfTheOutputIsKept(t *testing.T) {
	var kept tail
	for range 100 {
		if _, err := kept.Write([]byte(strings.Repeat("x", 1000) + "\n")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := kept.Write([]byte("the end")); err != nil {
		t.Fatal(err)
	}
	if got := kept.String(); len(got) != keptOutputBytes || !strings.HasSuffix(got, "the end") {
		t.Errorf("%d bytes are kept, ending %q", len(got), got[max(0, len(got)-10):])
	}
}
