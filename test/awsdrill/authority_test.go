package awsdrill

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"originchain/lambdas/silence"
	"originchain/scripts/call"
	"originchain/shared/api"
	"originchain/shared/failover"
	"originchain/test/settle"
)

// TestAnotherAuthority: whoever is told another authority than the nodes' asks no node
// anything, and says so; and of another one no node's certificate is taken, neither by
// clients nor by the other nodes.
func TestAnotherAuthority(t *testing.T) {
	r := newRegion(t)
	other := certificates(t, nodeID(0), nodeID(1))
	r.toldAnother(authority(t, other))
	r.showsAnother(r.nodes[1], other)
}

// toldAnother gives the function behind the alarm another authority: it takes nobody for
// dead, promotes nobody, and says of each node why it was not asked.
func (r *region) toldAnother(ca string) {
	r.t.Helper()
	r.fake.CloudWatch.Set(silence.AlarmName(instance), "ALARM", "nobody was heard of")
	out, err := r.function("silence", r.variables(ca)["silence"]).Invoke(r.t.Context(), []byte(`{"event":{"watch":true},"execution":"watch","round":0}`), calledFor)
	r.must(err)
	var a silence.Answer
	r.must(json.Unmarshal(out, &a))
	b := r.nodes[1]
	want := b.ID + ": " + strings.TrimPrefix(b.URL, "https://") + " is not known to be a node by the authorities in OC_CA (x509: certificate signed by unknown authority"
	silent := func(one failover.Reason) bool {
		return one.Code == failover.TargetSilent && strings.Contains(one.Detail, want)
	}
	if a.Verdict != silence.Verdict(failover.Wait) || a.Run != "" || !slices.ContainsFunc(a.Reasons, silent) {
		r.t.Errorf("%+v, want %q", a, want)
	}
	if rec, _, err := r.deps.Lease.Load(r.t.Context()); err != nil || rec.Epoch != 1 || rec.Holder != r.nodes[0].ID {
		r.t.Errorf("%+v, %v", rec, err)
	}
}

// showsAnother gives a follower certificates of another authority, which it takes itself: the
// writer does not, and goes on without it; nor do clients. With its own it follows again.
func (r *region) showsAnother(n *node, other string) {
	r.t.Helper()
	l := r.steady()
	n.secrets(other)
	n.secret("ca.crt", []byte(r.settings.CA+authority(r.t, other)))
	n.systemctl("restart", unitName)
	asked := call.Client{URL: n.URL, Token: adminToken, HTTP: r.known(authority(r.t, other))}
	settle.Eventually(r.t, "the writer refuses "+n.ID, func() error {
		var ready api.Ready
		resp, err := asked.Do(r.t.Context(), call.Request{Method: http.MethodGet, Path: "/ready"})
		if err == nil {
			err = json.Unmarshal(resp.Body, &ready)
		}
		if err != nil || ready.Ready || !strings.Contains(ready.Checks["leader"].Detail, "authority") {
			return fmt.Errorf("%+v, %v", ready, err)
		}
		return nil
	})
	settle.Eventually(r.t, "the writer goes on without it", func() error {
		rec, _, err := r.deps.Lease.Load(r.t.Context())
		if err == nil && len(rec.InSync) > 0 {
			err = fmt.Errorf("%v are in sync", rec.InSync)
		}
		return err
	})
	l.writesOn()
	var unknown x509.UnknownAuthorityError
	if _, err := n.stands(); !errors.As(err, &unknown) {
		r.t.Errorf("a client of the instance takes it for a node: %v", err)
	}
	n.secrets(r.certs)
	n.systemctl("restart", unitName)
	r.follows(n)
	l.held()
}
