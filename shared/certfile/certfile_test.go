package certfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/sirupsen/logrus"

	"originchain/shared/telemetry"
)

// files are two files of a test; "bad" in one of them makes no value.
type files struct {
	mu       sync.Mutex
	contents [2]string
	err      error
	parsed   int
}

func (f *files) set(a, b string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.contents, f.err = [2]string{a, b}, err
}

func (f *files) source() Source[string] {
	return Source[string]{
		Name: "a.crt", What: "TLS certificate",
		Read: func() ([][]byte, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			return [][]byte{[]byte(f.contents[0]), []byte(f.contents[1])}, f.err
		},
		Parse: func(contents [][]byte) (string, error) {
			f.parsed++
			text := fmt.Sprintf("%s", contents)
			if strings.Contains(text, "bad") {
				return "", errors.New("bad file")
			}
			return text, nil
		},
	}
}

func logger(t *testing.T, out *bytes.Buffer) *logrus.Logger {
	t.Helper()
	log, err := telemetry.NewLogger(out, "info")
	if err != nil {
		t.Fatal(err)
	}
	return log
}

func TestTheFirstLoadRefuses(t *testing.T) {
	f := &files{}
	unreadable := errors.New("unreadable")
	f.set("1", "1", unreadable)
	if _, err := Load(f.source(), nil); !errors.Is(err, unreadable) {
		t.Errorf("%v", err)
	}
	f.set("bad", "1", nil)
	if _, err := Load(f.source(), nil); err == nil {
		t.Error("a bad file was taken")
	}
}

func TestALookTakesGoodChangesAlone(t *testing.T) {
	var out bytes.Buffer
	f := &files{}
	f.set("1", "1", nil)
	w, err := Load(f.source(), logger(t, &out))
	if err != nil {
		t.Fatal(err)
	}
	gone, away := errors.New("gone"), errors.New("away")
	for i, c := range []struct {
		a, b   string
		err    error
		want   string
		logged string
	}{
		{"1", "1", nil, "[1 1]", ""},
		{"1", "2", nil, "[1 2]", "new TLS certificate in use"},
		{"bad", "2", nil, "[1 2]", "bad file"},
		{"bad", "2", nil, "[1 2]", ""},
		{"1", "2", gone, "[1 2]", "gone"},
		{"1", "2", gone, "[1 2]", ""},
		{"1", "2", away, "[1 2]", "away"},
		{"bad", "2", nil, "[1 2]", ""}, // what it held before it was gone
		{"1", "2", gone, "[1 2]", "gone"},
		{"3", "2", nil, "[3 2]", "new TLS certificate in use"},
	} {
		out.Reset()
		before := w.Current()
		f.set(c.a, c.b, c.err)
		if took := w.Look(); took != (w.Current() != before) || w.Current() != c.want {
			t.Errorf("%d: took %v, %s is current, want %s", i, took, w.Current(), c.want)
		}
		if lines := strings.Count(out.String(), "\n"); (lines == 1) != (c.logged != "") || lines > 1 || !strings.Contains(out.String(), c.logged) {
			t.Errorf("%d: logged %q, want %q", i, &out, c.logged)
		}
	}
}

func TestUnchangedFilesAreNotParsedAgain(t *testing.T) {
	var out bytes.Buffer
	f := &files{}
	f.set("1", "1", nil)
	w, err := Load(f.source(), logger(t, &out))
	if err != nil {
		t.Fatal(err)
	}
	w.Look()
	if f.parsed != 1 {
		t.Errorf("parsed %d times", f.parsed)
	}
}

func TestRunLooksByTimeAndByHangupUntilItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		f := &files{}
		f.set("1", "1", nil)
		w, err := Load(f.source(), logger(t, &out))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*Poll)
		defer cancel()
		hangup, ended := make(chan struct{}), make(chan struct{})
		go func() { defer close(ended); w.Run(ctx, hangup) }()
		synctest.Wait()
		f.set("2", "1", nil)
		hangup <- struct{}{}
		synctest.Wait()
		if w.Current() != "[2 1]" {
			t.Errorf("after a hangup %s is current", w.Current())
		}
		f.set("3", "1", nil)
		synctest.Wait()
		if w.Current() != "[2 1]" {
			t.Error("a look before its time")
		}
		<-ended
		if w.Current() != "[3 1]" {
			t.Errorf("after ten polls %s is current", w.Current())
		}
	})
}
