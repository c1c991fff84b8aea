package s3object

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"originchain/shared/object"
)

const role = "arn:aws:iam::111122223333:role/oc-acme-retention-eu-central-1"

// cloud answers for S3 and STS, and notes who asked for what, and where.
type cloud struct {
	mu     sync.Mutex
	asked  []string
	refuse bool
}

func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	// Credential=<key>/<date>/<region>/<service>/aws4_request
	_, credential, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	scope := strings.Split(credential, "/")
	form, _ := url.ParseQuery(string(body))
	what := r.Method
	for _, q := range []string{"versions", "delete", "uploads", "list-type"} {
		if r.URL.Query().Has(q) {
			what += " " + q
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if scope[3] == "sts" {
		what = form.Get("Action") + " " + form.Get("RoleArn") + " " + form.Get("RoleSessionName")
	}
	c.asked = append(c.asked, fmt.Sprintf("%s by %s in %s", what, scope[0], scope[2]))
	switch {
	case scope[3] == "sts" && c.refuse:
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not authorized to take the role</Message></Error></ErrorResponse>`)
	case scope[3] == "sts":
		_, _ = io.WriteString(w, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials><AccessKeyId>REMOVER</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`)
	case strings.HasSuffix(what, "versions"):
		_, _ = io.WriteString(w, `<ListVersionsResult></ListVersionsResult>`)
	case strings.HasSuffix(what, "delete"):
		_, _ = io.WriteString(w, `<DeleteResult></DeleteResult>`)
	case strings.HasSuffix(what, "uploads"):
		_, _ = io.WriteString(w, `<ListMultipartUploadsResult></ListMultipartUploadsResult>`)
	case strings.HasSuffix(what, "list-type"):
		_, _ = io.WriteString(w, `<ListBucketResult></ListBucketResult>`)
	}
}

func (c *cloud) taken() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.asked
	c.asked = nil
	return out
}

// removing opens a bucket of the cloud, whose remover is given.
func removing(t *testing.T, c *cloud, remover string) *Store {
	t.Helper()
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "NODE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
	t.Setenv("AWS_SESSION_TOKEN", "")
	t.Setenv("AWS_REGION", "eu-central-1")
	t.Setenv("AWS_ENDPOINT_URL_STS", server.URL)
	text := "s3://bucket?region=eu-west-1&endpoint=" + url.QueryEscape(server.URL)
	if remover != "" {
		text += "&remover=" + url.QueryEscape(remover)
	}
	return open(t, text)
}

// TestOnlyTheRemoverDeletes: whatever deletes is asked for in the role, and nothing else
// is; the role is taken once, in the region of the process.
func TestOnlyTheRemoverDeletes(t *testing.T) {
	c := &cloud{}
	s := removing(t, c, role)
	ctx := t.Context()
	if err := s.Put(ctx, "log/1", object.Bytes([]byte("x"))); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"PUT by NODE in eu-west-1"}, c.taken()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if err := s.Delete(ctx, "log/1"); err != nil {
		t.Fatal(err)
	}
	if err := s.Erase(ctx, "log/1"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.EraseVersions(ctx, "log/"); err != nil {
		t.Fatal(err)
	}
	got := c.taken()
	if want := "AssumeRole " + role + " originchain-retention by NODE in eu-central-1"; got[0] != want {
		t.Errorf("%q, want %q", got[0], want)
	}
	for _, a := range got[1:] {
		if !strings.HasSuffix(a, " by REMOVER in eu-west-1") {
			t.Errorf("%s", a)
		}
	}
	for _, want := range []string{"POST delete", "GET versions", "GET uploads"} {
		if !slices.ContainsFunc(got, func(a string) bool { return strings.HasPrefix(a, want) }) {
			t.Errorf("nobody asked for %s: %q", want, got)
		}
	}
	// Without one, who puts deletes.
	s = removing(t, c, "")
	if err := s.Delete(ctx, "log/1"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"POST delete by NODE in eu-west-1"}, c.taken()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestARoleThatIsRefused: nothing is deleted as somebody else.
func TestARoleThatIsRefused(t *testing.T) {
	c := &cloud{refuse: true}
	s := removing(t, c, role)
	err := s.Delete(t.Context(), "log/1")
	if err == nil || !strings.Contains(err.Error(), "AssumeRole") {
		t.Errorf("%v", err)
	}
	for _, a := range c.taken() {
		if !strings.HasPrefix(a, "AssumeRole") {
			t.Errorf("asked all the same: %s", a)
		}
	}
	for _, bad := range []string{"oc-acme", "arn:aws:iam::1:role/x", "arn:aws:s3:::x", role + " x"} {
		if _, err := New(t.Context(), Config{Bucket: "b", Region: "r", Remover: bad}); err == nil || strings.Contains(err.Error(), "b/"+bad) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
