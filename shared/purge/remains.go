package purge

import (
	"cmp"
	"fmt"
	"slices"

	"originchain/shared/archive"
	"originchain/shared/lsn"
)

// statesIn are the directories in a data directory whose files keep deleted values.
var statesIn = []string{"state", "state.old", "checkpoints", "archive.out"}

// Remains is what a purge of the archive leaves to be done on the nodes, which it does
// not reach.
type Remains struct {
	// Nodes are those that have written the archive. Every follower that has followed
	// one of them holds the same; the archive does not know followers by name.
	Nodes []string `json:"nodes_to_rebuild"`
	// Files are, in each data directory, what holds the redacted frames.
	Files []Holding `json:"files"`
	// States are the parts of a data directory that may hold the rows as deleted values.
	States []string `json:"states"`
}

// Holding is where redacted frames of an epoch are in a data directory.
type Holding struct {
	Epoch lsn.Epoch `json:"epoch"`
	// From and To are the first and the last redacted frame.
	From lsn.LSN `json:"from_lsn"`
	To   lsn.LSN `json:"to_lsn"`
	// Log and Divergent say which files hold them.
	Log       string `json:"log"`
	Divergent string `json:"divergent"`
}

// remainsOf tells what is left to be done.
func remainsOf(epochs []archive.Epoch, frames []lsn.Pos) Remains {
	out := Remains{Nodes: []string{}, Files: []Holding{}, States: statesIn}
	for i := range epochs {
		if n := epochs[i].Node; !slices.Contains(out.Nodes, n) {
			out.Nodes = append(out.Nodes, n)
		}
	}
	slices.Sort(out.Nodes)
	at := map[lsn.Epoch]int{}
	for _, p := range frames {
		i, ok := at[p.Epoch]
		if !ok {
			i = len(out.Files)
			at[p.Epoch] = i
			out.Files = append(out.Files, Holding{Epoch: p.Epoch, From: p.LSN, To: p.LSN})
		}
		h := &out.Files[i]
		h.From, h.To = min(h.From, p.LSN), max(h.To, p.LSN)
	}
	slices.SortFunc(out.Files, func(x, y Holding) int { return cmp.Compare(x.Epoch, y.Epoch) })
	for i := range out.Files {
		h := &out.Files[i]
		h.Log = fmt.Sprintf("log/%016x.log and below it the next lower name, up to log/%016x.log: a segment is named by its first LSN", h.From, h.To)
		h.Divergent = fmt.Sprintf("divergent-%016x-<first LSN>.log with a first LSN of at most %016x", h.Epoch, h.To)
	}
	return out
}
