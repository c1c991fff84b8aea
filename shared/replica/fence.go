package replica

import (
	"fmt"
	"time"
)

// Fence ends acknowledgements for ever: another node is the writer now.
func (h *Hub) Fence(reason error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fatal == nil {
		h.fatal = fmt.Errorf("%w: %w", ErrFenced, reason)
	}
	h.notify()
}

// maxFollowers bounds the nodes that a hub keeps in mind.
const maxFollowers = 64

// Room says whether a follower is known, or one more can be.
func (h *Hub) Room(node string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, p := range h.followers {
		if p.session == nil && p.state == outside && time.Since(p.seen) > h.cfg.RetainFor {
			delete(h.followers, name)
		}
	}
	return h.followers[node] != nil || len(h.followers) < maxFollowers
}
