package silence

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"originchain/lambdas/candidate"
	"originchain/scripts/call"
	"originchain/shared/api"
	"originchain/shared/failover"
	"originchain/shared/lease"
	"originchain/shared/lsn"
)

// askTimeout bounds the question how far a follower is.
const askTimeout = time.Second

// told is what a node has said of itself.
type told struct {
	api.Replication
	// failing: that its log takes no writes, too.
	failing bool
}

// durable is where its log ends.
func (r told) durable() lsn.Pos {
	return lsn.Pos{Epoch: lsn.Epoch(r.DurableEpoch), LSN: lsn.LSN(r.DurableLSN)}
}

// listen asks every node how far it is; mute is why those did not say that are not heard.
func (h *Handler) listen(ctx context.Context, nodes []failover.Node) (heard map[string]told, mute map[string]error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var mu sync.Mutex
	var all sync.WaitGroup
	heard, mute = make(map[string]told), make(map[string]error)
	for _, n := range nodes {
		all.Go(func() {
			client := call.Client{URL: n.URL, Token: h.deps.Failover.AdminToken, HTTP: h.client()}
			var r told
			err := client.Get(ctx, "/v1/admin/replication", &r.Replication)
			if err == nil && r.Node != n.ID { // another node's word is not this one's
				err = fmt.Errorf("at %s answers %q", n.URL, r.Node)
			}
			if err == nil {
				r.failing = h.failing(ctx, n)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				mute[n.ID] = bare(err)
				return
			}
			heard[n.ID] = r
		})
	}
	all.Wait()
	return heard, mute
}

// failing says that a node answers that its log takes no writes: what it does not answer in
// time says nothing.
func (h *Handler) failing(ctx context.Context, n failover.Node) bool {
	client := call.Client{URL: n.OpsURL, HTTP: h.client()}
	answer, err := client.Do(ctx, call.Request{Method: http.MethodGet, Path: "/health"})
	return err == nil && answer.Status >= http.StatusInternalServerError
}

// bare is an error without the URL that was asked: the node is named beside it.
func bare(err error) error {
	var asked *url.Error
	if errors.As(err, &asked) {
		return asked.Err
	}
	return err
}

// nobody says why no node can take the holder's place, for each that could have.
func nobody(rec lease.Record, nodes []failover.Node, heard map[string]told, mute map[string]error) failover.Reason {
	var b strings.Builder
	code := failover.TargetSilent
	if candidate.Hangs(rec, standing(heard, rec.Holder)) {
		code = failover.TargetFailing
		fmt.Fprintf(&b, "%s was given epoch %d, and says itself that its log takes no writes: it is waited for, and who was stopped for it, if anybody was, is let go. Whoever is called needs not answer; an answer that names another node in \"to\" is told first what is lost by that (docs/RUNBOOK.md#health)", rec.Holder, rec.Epoch)
	} else {
		fmt.Fprintf(&b, "of %d nodes none answers that could take the place of %s", len(nodes), rec.Holder)
	}
	for _, n := range nodes {
		switch r, answers := heard[n.ID]; {
		case n.ID == rec.Holder:
		case !answers:
			fmt.Fprintf(&b, "; %s: %v", n.ID, mute[n.ID])
		case r.failing:
			fmt.Fprintf(&b, "; %s: its log takes no writes either", n.ID)
		default:
			fmt.Fprintf(&b, "; %s: what was acknowledged may not be in its log, which ends with LSN %d of epoch %d", n.ID, r.DurableLSN, r.DurableEpoch)
		}
	}
	return failover.Reason{Code: code, Detail: b.String()}
}

func (h *Handler) client() *http.Client {
	if h.deps.Failover.HTTP != nil {
		return h.deps.Failover.HTTP
	}
	return http.DefaultClient
}
