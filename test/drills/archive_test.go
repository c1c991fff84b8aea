package drills

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"originchain/shared/aws/s3object"
	"originchain/shared/aws/s3object/s3test"
	"originchain/shared/object"
	"originchain/shared/restore"
	"originchain/test/netns"
	"originchain/test/settle"
)

// s3Port is where the nodes of an instance reach the archive, at the network's gateway.
const s3Port = 7404

// bucket is an archive that is reached through the network.
func (i *instance) bucket() s3test.Bucket {
	i.t.Helper()
	b := s3test.NewBucket(i.t, true)
	at := net.JoinHostPort(i.net.Gateway(), strconv.Itoa(s3Port))
	netns.Relay(i.t, at, strings.TrimPrefix(b.Endpoint, "http://"))
	b.Endpoint = "http://" + at
	return b
}

// Without its archive an instance writes, and fails over: nobody is in its way who is not
// needed for an acknowledgement. When the archive is back it gets all of the line, also
// what only the writer before had not shipped.
func TestArchiveOneWay(t *testing.T) {
	t.Parallel()
	pick := random(t).IntN(2)
	for n, c := range []struct {
		name string
		way  netns.Direction
		what func(*instance) string
	}{
		{"nothing is heard of the archive", netns.Arriving, toOrFrom("saddr", s3Port, "sport")},
		{"the archive hears nothing", netns.Leaving, toOrFrom("daddr", s3Port, "dport")},
	} {
		if !*all && n != pick {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			i := prepare(t, 1)
			b := i.bucket()
			f := i.underFar(b.URL(""))
			l := i.begin()
			l.breaks.Store(true) // requests of a writer that is killed have no answer
			for _, n := range i.nodes {
				i.must(n.Drop(c.way, c.what(i)))
			}
			was, epoch := i.writer(), i.record().Epoch
			settle.Pause(t.Context(), cutFor)
			l.flow()
			if now := i.record(); now.Holder != was.ID || now.Epoch != epoch {
				t.Errorf("%s holds epoch %d: nobody had reason to replace %s of epoch %d", now.Holder, now.Epoch, was.ID, epoch)
			}
			at := time.Now()
			i.must(f.servers[was.ID].Kill())
			l.succeeded("kill -9, no machine reached, archive away", at, uint64(epoch))
			for _, n := range i.nodes {
				dropped, err := n.Dropped()
				if i.must(err); dropped == 0 {
					t.Errorf("nothing between %s and the archive was dropped", n.ID)
				}
				i.must(n.Heal())
			}
			f.start(i.index(was))
			l.flow()
			l.settle()
			i.archived(b)
		})
	}
}

// index is a node's place among the nodes.
func (i *instance) index(of *node) int {
	for n := range i.nodes {
		if i.nodes[n] == of {
			return n
		}
	}
	panic("a node of another instance")
}

// archived waits until the archive has all of the writer's line, without a hole.
func (i *instance) archived(b s3test.Bucket) {
	i.t.Helper()
	store, err := object.Open(i.t.Context(), b.URL(""), map[string]object.Opener{"s3": s3object.Open})
	i.must(err)
	settle.Eventually(i.t, "the archive has all of the line", func() error {
		s, err := i.writer().standing()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(i.t.Context(), settle.Within)
		defer cancel()
		p, err := restore.MakePlan(ctx, store, restore.Request{Instance: ulid.MustParse(i.in.ID), Latest: true})
		if err != nil {
			return err
		}
		if len(p.Unread()) > 0 || len(p.Gaps) > 0 || uint64(p.Target.LSN) < s.LSN || uint64(p.Line) != s.Epoch || p.From.LSN > 1 {
			return fmt.Errorf("the archive has LSN %d to %d of the line of epoch %d, without %v, %v; the writer is at %d of %d", p.From.LSN, p.Target.LSN, p.Line, p.Gaps, p.Unread(), s.LSN, s.Epoch)
		}
		return nil
	})
}
