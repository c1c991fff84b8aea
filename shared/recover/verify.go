package recover

import (
	"fmt"

	"originchain/shared/lsn"
	"originchain/shared/table"
)

// Scanned is what a full scan of a state found.
type Scanned struct {
	Applied table.Applied
	Keys    uint64
}

// VerifyFull recomputes the digest of a frozen state from every key in it and
// compares it with the one the log recorded at that frame.
func VerifyFull(s *table.Snapshot) (Scanned, error) { return VerifyView(s, s.Applied()) }

// VerifyView is VerifyFull for a frozen state that is read through a View, which
// may watch the pairs go by.
func VerifyView(v table.View, at table.Applied) (Scanned, error) {
	digest, keys, err := table.ScanDigest(v)
	if err != nil {
		return Scanned{}, err
	}
	if digest != at.Digest {
		return Scanned{}, &MismatchError{LSN: at.Pos.LSN, What: "state digest", Want: at.Digest.String(), Got: digest.String()}
	}
	return Scanned{Applied: at, Keys: keys}, nil
}

// Join checks that a state belongs to a log before anything is replayed: the
// log must reach back to the frame after the state's, and have the state's own
// frame in its history when it still holds it.
func Join(at table.Applied, first, last lsn.LSN, chainAt func(lsn.LSN) (lsn.Chain, error)) error {
	n := at.Pos.LSN
	if n > last {
		return &MismatchError{LSN: n, What: "the state is ahead of the log", Want: fmt.Sprintf("it ends at %d", last), Got: fmt.Sprintf("it stands at %d", n)}
	}
	if n+1 < first {
		return &MismatchError{LSN: n, What: "the log no longer reaches back to the state", Want: fmt.Sprintf("it begins at %d", first), Got: fmt.Sprintf("it stands at %d", n)}
	}
	if n < first || n == 0 {
		return nil // the frame itself is gone; the next one's chain covers it
	}
	chain, err := chainAt(n)
	if err != nil {
		return err
	}
	if chain != at.Chain {
		return &MismatchError{LSN: n, What: "chain value", Want: chain.String(), Got: at.Chain.String()}
	}
	return nil
}
