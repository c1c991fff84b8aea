package tenant

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oklog/ulid/v2"

	"originchain/shared/fault"
)

func TestATokenShowsOnlyWhenAsked(t *testing.T) {
	token, record := MintToken(ulid.Make(), Test, now)
	if !strings.HasPrefix(token.Reveal(), "oc_test_"+record.ID.String()) {
		t.Errorf("token of %s", record.ID)
	}
	secret := token.Reveal()[len(token.Reveal())-secretChars:]
	asJSON, err := json.Marshal(map[string]any{"t": token})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprint(token), fmt.Sprintf("%v %+v %#v %s", token, &token, token, token), string(asJSON)} {
		if strings.Contains(text, secret) {
			t.Errorf("a formatted token shows its secret: %s", text)
		}
	}
	for text, want := range map[string]Kind{"": Live, "live": Live, "test": Test} {
		if got, err := ParseKind(text); got != want || err != nil {
			t.Errorf("%q: %q %v", text, got, err)
		}
	}
	if _, err := ParseKind("admin"); fault.CodeOf(err) != fault.ValidationFailed {
		t.Errorf("kind admin: %v", err)
	}
}

func TestAdminTokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.token")
	made, err := LoadOrCreateAdminToken(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v: %v", info.Mode(), err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.TrimSpace(string(raw))
	loaded, err := LoadOrCreateAdminToken(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []*AdminToken{made, loaded} {
		for given, want := range map[string]bool{text: true, text + "x": false, text[1:]: false, "": false} {
			if _, ok := token.Matches(given); ok != want {
				t.Errorf("%q matches: %t", given, ok)
			}
		}
	}
	is, ok := made.Matches(text)
	if again, known := loaded.Matches(text); !ok || !known || is != again || strings.Contains(text, strings.TrimPrefix(is, "admin-")) {
		t.Errorf("actors %s and %s", is, again)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v %v", entries, err)
	}
}

func TestAdminTokenFileRefused(t *testing.T) {
	dir := t.TempDir()
	long := strings.Repeat("x", minAdminTokenBytes)
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"group may read":  {long, 0o640, "chmod 600"},
		"others may read": {long, 0o604, "chmod 600"},
		"too short":       {long[1:], 0o600, "characters"},
		"too long":        {strings.Repeat("x", maxAdminTokenBytes+1), 0o600, "characters"},
		"two lines":       {long + "\n" + long, 0o600, "one line"},
		"empty":           {"", 0o600, "remove the file"},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadOrCreateAdminToken(path); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := LoadOrCreateAdminToken(dir); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a directory: %v", err)
	}
	if _, err := LoadOrCreateAdminToken(filepath.Join(dir, "no", "such", "dir")); err == nil {
		t.Error("a missing directory is accepted")
	}
	for _, edge := range []int{minAdminTokenBytes, maxAdminTokenBytes} {
		if _, err := NewAdminToken(strings.Repeat("x", edge)); err != nil {
			t.Errorf("%d characters: %v", edge, err)
		}
	}
}

func TestTwoProcessesMakeOneAdminToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.token")
	var wg sync.WaitGroup
	actors := make(chan string, 8)
	for range cap(actors) {
		wg.Go(func() {
			token, err := LoadOrCreateAdminToken(path)
			if err != nil {
				t.Error(err)
				return
			}
			actors <- token.keys.Load().current.actor
		})
	}
	wg.Wait()
	close(actors)
	first := <-actors
	for actor := range actors {
		if actor != first {
			t.Error("two admin tokens were made")
		}
	}
}

func TestSecretsAreComparedInConstantTime(t *testing.T) {
	want := map[string]string{"admin.go": "Matches", "auth.go": "isVerified", "token.go": "matches"}
	for file, name := range want {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, d := range parsed.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Name.Name != name {
				continue
			}
			ast.Inspect(f.Body, func(n ast.Node) bool {
				s, ok := n.(*ast.SelectorExpr)
				found = found || ok && s.Sel.Name == "ConstantTimeCompare"
				return true
			})
		}
		if !found {
			t.Errorf("%s: %s does not compare in constant time", file, name)
		}
	}
}

// A token that is replaced is taken for an hour, and no longer; the one before that is not.
func TestTheTokenBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := func(c string) string { return strings.Repeat(c, minAdminTokenBytes) }
		token := func(c string) *AdminToken {
			k, err := NewAdminToken(text(c))
			if err != nil {
				t.Fatal(err)
			}
			return k
		}
		served := token("a")
		first, _ := served.Matches(text("a"))
		served.Take(token("a")) // which is no change
		served.Take(token("b"))
		now, ok := served.Matches(text("b"))
		before, still := served.Matches(text("a"))
		if !ok || !still || before != first || now == first {
			t.Errorf("after a change: %s %t, the one before %s %t, which was %s", now, ok, before, still, first)
		}
		if _, ok := served.Matches(""); ok {
			t.Error("nothing matches")
		}
		time.Sleep(AdminOverlap)
		if _, ok := served.Matches(text("a")); ok {
			t.Error("the token before is taken after its time")
		}
		served.Take(token("c"))
		served.Take(token("d"))
		for c, want := range map[string]bool{"b": false, "c": true, "d": true} {
			if _, ok := served.Matches(text(c)); ok != want {
				t.Errorf("%s, after two changes: %t", c, ok)
			}
		}
	})
}
