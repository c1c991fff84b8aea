package settings

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"originchain/shared/aws/session"
	"originchain/shared/tenant"
	"originchain/test/awsfake"
)

const (
	first  = "oc_admin_aaaaaaaaaaaaaaaaaaaaaaaa"
	second = "oc_admin_bbbbbbbbbbbbbbbbbbbbbbbb"
	third  = "oc_admin_cccccccccccccccccccccccc"
	name   = "originchain/acme/admin-token"
)

func token(t *testing.T, text string) *tenant.AdminToken {
	t.Helper()
	k, err := tenant.NewAdminToken(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// However a token is changed, what asks the nodes has one that they take, or learns of it.
func TestNodesTakeATokenThatIsKnown(t *testing.T) {
	for of, c := range map[string]struct {
		// puts are the values that follow on the first; each is there for apart.
		puts  []string
		apart time.Duration
		// knows is what a node has been told, in this order; it is started with the first.
		knows []string
	}{
		"a server is started anew after a change": {puts: []string{second}, knows: []string{second}},
		"a server has not heard of a change":      {puts: []string{second}, apart: time.Hour, knows: []string{first}},
		"the change was put right":                {puts: []string{second, third}, knows: []string{first, third}},
		"it is rolled back to one long gone":      {puts: []string{second, first}, knows: []string{second}},
	} {
		t.Run(of, func(t *testing.T) {
			f := awsfake.Start(t)
			s := acme()
			s.AdminSecret = f.Secrets.Put(name, first)
			f.Secrets.Age(name, 24*time.Hour)
			node := token(t, c.knows[0])
			for _, k := range c.knows[1:] {
				node.Take(token(t, k))
			}
			took := 0
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if _, ok := node.Matches(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")); !ok {
					w.WriteHeader(http.StatusUnauthorized)
				} else if string(body) == "the body" {
					took++
				}
			}))
			t.Cleanup(srv.Close)
			d, known, err := s.Reach(t.Context(), session.Config{Region: awsfake.Region, Endpoint: f.URL, Credentials: awsfake.Credentials()}, nil, nil, "")
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range c.puts {
				f.Secrets.Put(name, v)
				f.Secrets.Age(name, c.apart)
			}
			use, err := known.Value(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL, strings.NewReader("the body"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+use)
			resp, err := d.HTTP.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK || took != 1 {
				t.Errorf("shown %q first: %d, taken %d times", use, resp.StatusCode, took)
			}
		})
	}
}
