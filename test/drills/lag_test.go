package drills

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"originchain/scripts/call"
	"originchain/shared/failover"
	"originchain/test/netns"
	"originchain/test/settle"
)

// isolate cuts a follower off from everything but the control plane and its clients.
func (n *node) isolate() {
	n.i.t.Helper()
	n.i.must(n.Drop(netns.Arriving, fmt.Sprintf("ip saddr != %s", n.i.net.Gateway())))
}

// writes writes n rows, one after the other, and returns the frame of the last.
func (i *instance) writes(prefix string, n int) (last uint64) {
	i.t.Helper()
	for k := range n {
		resp, err := i.put(i.t.Context(), i.endpoint(), rowsID, fmt.Sprintf("%s-%d", prefix, k), "x", fmt.Sprintf("%s-%d", prefix, k))
		i.must(err)
		if resp.Status != 200 {
			i.t.Fatalf("write %d: %d %s", k, resp.Status, resp.Body)
		}
		var row struct{ LSN uint64 }
		i.must(json.Unmarshal(resp.Body, &row))
		last = row.LSN
	}
	return last
}

func (n *node) mustStand() (last, epoch uint64) {
	n.i.t.Helper()
	s, err := n.standing()
	n.i.must(err)
	return s.DurableLSN, s.DurableEpoch
}

// Two promotions in a row, without synchronous replication, the second of a node that is
// far behind: refused, and with the override that the refusal names the report has exactly
// the LSNs that are lost.
func TestSecondPromotionOfALaggingNode(t *testing.T) {
	t.Parallel()
	i := newInstance(t, 2, "--sync-replicas=0")
	first := i.writer()
	second, lagging := i.others(first)[0], i.others(first)[1]
	i.writes("a", 20)
	settle.Eventually(t, "both followers have all", func() error {
		want, _ := first.mustStand()
		for _, n := range []*node{second, lagging} {
			if have, _ := n.mustStand(); have != want {
				return fmt.Errorf("%s has %d of %d", n.ID, have, want)
			}
		}
		return nil
	})
	lagging.isolate()
	if c := i.byScript(nil, first, second); c.code != 0 {
		t.Fatalf("the first promotion: %+v", c)
	}
	i.writes("b", int(failover.DefaultAllowLag)+50)
	had, _ := lagging.mustStand()
	lost, _ := second.mustStand()
	// What a writer had is known from its renewals, once it is gone.
	settle.Eventually(t, "the record has the last commit", func() error {
		if r := i.record(); uint64(r.CommitLSN) < lost {
			return fmt.Errorf("it is %d, and %d was acknowledged", r.CommitLSN, lost)
		}
		return nil
	})
	first.switchOff()
	second.switchOff()
	settle.Pause(t.Context(), time.Second)
	if c := i.byScript(nil, second, lagging, "--json"); c.code == 0 || !strings.Contains(c.out, fmt.Sprintf("--allow-lag %d", lost-had)) {
		t.Fatalf("a node that lacks LSN %d to %d: %+v", had+1, lost, c)
	}
	if now := i.record(); now.Holder != second.ID {
		t.Fatalf("%s holds the record after a refusal", now.Holder)
	}
	c := i.byScript(nil, second, lagging, "--json", fmt.Sprintf("--allow-lag=%d", lost-had))
	if c.code != 0 {
		t.Fatalf("with the override: %+v", c)
	}
	r, ok, err := i.lastFailover()
	if err != nil || !ok || r.To != lagging.ID || r.LostFrom != had+1 || r.LostTo != lost {
		t.Errorf("LSN %d to %d are lost, and the report says %d to %d (%t, %v)", had+1, lost, r.LostFrom, r.LostTo, ok, err)
	}
	i.must(lagging.Heal())
	i.writes("c", 20)
	first.switchOn()
	second.switchOn()
	i.whole()
	writer, others := i.copies()
	settle.SameDigests(t, writer, others...)
	if i.writer() != lagging {
		t.Errorf("%s writes", i.writer().ID)
	}
	// What was lost is in a file of the node that had it, and on no node's line.
	for _, n := range i.nodes {
		out, err := n.asTenant().Select(t.Context(), i.in.Tenant, "SELECT id FROM "+rowsID+" WHERE id LIKE 'b-%'")
		i.must(err)
		if len(out.Rows) != 0 {
			t.Errorf("%s has %d rows of what was lost", n.ID, len(out.Rows))
		}
	}
	second.setAside("b-7")
	settle.Eventually(t, "the report is exact", func() error {
		if r, _, err := i.lastFailover(); err != nil || !r.LostExact || r.LostFrom != had+1 || r.LostTo != lost {
			return fmt.Errorf("LSN %d to %d, exact %t, %w", r.LostFrom, r.LostTo, r.LostExact, err)
		}
		return nil
	})
}

// setAside: a file of divergent frames of the node has a row.
func (n *node) setAside(row string) {
	n.i.t.Helper()
	out, err := netns.Output("", "sh", "-c", fmt.Sprintf("'%s' --ops '%s'/divergent-*.log", waldumpBin, n.i.dir.Data(n.Machine)))
	n.i.must(err)
	if !strings.Contains(out, row) {
		n.i.t.Errorf("the divergent files of %s do not have %q", n.ID, row)
	}
}

func (i *instance) lastFailover() (r failover.Report, ok bool, err error) {
	s, err := i.status()
	if err != nil || len(s.LastFailover) == 0 {
		return r, false, err
	}
	err = json.Unmarshal(s.LastFailover, &r)
	return r, r.Epoch > 0, err
}

// A follower that has left the in-sync set, and one whose directory is empty, take nobody's
// place: neither by the control plane nor by hand, and the refusal says what would be lost,
// or that nothing helps. The writer comes back and all is well.
func TestUnfitFollowers(t *testing.T) {
	t.Parallel()
	for _, empty := range []bool{false, true} {
		t.Run(fmt.Sprintf("empty %t", empty), func(t *testing.T) {
			t.Parallel()
			i := newInstance(t, 1)
			l := i.begin()
			was := i.writer()
			behind := i.others(was)[0]
			behind.isolate()
			if empty {
				behind.emptied()
			}
			settle.Eventually(t, "the follower has left the set", func() error {
				if r := i.record(); len(r.InSync) != 0 {
					return fmt.Errorf("it is %v", r.InSync)
				}
				return nil
			})
			l.flow()
			was.switchOff()
			settle.Pause(t.Context(), time.Second)
			c := i.byScript(nil, was, behind)
			t.Logf("%s", c.out)
			// An empty node does not even say where it stands before it has heard a leader.
			want := "--accept-data-loss"
			if empty {
				want = behind.ID
			}
			if c.code == 0 || !strings.Contains(c.out, want) {
				t.Errorf("%s: %+v", behind.ID, c)
			}
			if now := i.record(); now.Holder != was.ID {
				t.Errorf("%s holds the record", now.Holder)
			}
			i.must(behind.Heal())
			was.switchOn()
			l.flow()
			l.settle()
		})
	}
}

// emptied gives a follower a new, empty disk.
func (n *node) emptied() {
	n.i.t.Helper()
	n.switchOff()
	settle.Eventually(n.i.t, n.ID+" has ended", func() error {
		if pid := n.i.pid(n); pid != 0 && syscall.Kill(pid, 0) == nil {
			return fmt.Errorf("process %d runs", pid)
		}
		return nil
	})
	n.i.must(os.RemoveAll(n.i.dir.Data(n.Machine)))
	n.switchOn()
	settle.Eventually(n.i.t, n.ID+" runs", func() error {
		_, err := n.asTenant().Do(n.i.t.Context(), call.Request{Method: http.MethodGet, Path: "/health"})
		return err
	})
}
