package wal

import (
	"fmt"

	"originchain/shared/frame"
	"originchain/shared/lsn"
)

// Rewrite makes a segment anew, frame by frame, with some of them redacted: what comes
// out has the header, the chain values and, sealed, the footer that those frames lead
// to. One goroutine uses it.
type Rewrite struct {
	a    *activeSegment
	enc  *frame.Encoder
	out  []byte
	prev lsn.Chain
}

// NewRewrite begins a segment with this header. Close frees it.
func NewRewrite(h frame.SegmentHeader) (*Rewrite, error) {
	enc, err := frame.NewEncoder()
	if err != nil {
		return nil, err
	}
	return &Rewrite{a: startActive("", nil, h), enc: enc, out: h.Append(nil), prev: h.PrevChain}, nil
}

// Close frees the encoder.
func (r *Rewrite) Close() error { return r.enc.Close() }

// Keep adds a frame as it is; raw are its bytes, padding included.
func (r *Rewrite) Keep(f *frame.Frame, raw []byte) error {
	at := len(r.out)
	r.out = append(r.out, raw...)
	frame.Relocate(r.out[at:], r.a.header.Seed, uint64(at))
	return r.note(f, f.Body, at)
}

// Redact adds a frame with what was left of its body. Its chain value stays.
func (r *Rewrite) Redact(f *frame.Frame, body []byte) error {
	p, err := r.enc.PrepareRedacted(f.H, body)
	if err != nil {
		return err
	}
	at := len(r.out)
	var chain lsn.Chain
	r.out, chain = frame.AppendFrame(r.out, r.prev, &f.Header, &p, r.a.header.Seed, uint64(at))
	if chain != f.Chain {
		return fmt.Errorf("redact LSN %d: it has chain value %s, and would have %s", f.LSN, f.Chain, chain)
	}
	return r.note(f, body, at)
}

func (r *Rewrite) note(f *frame.Frame, body []byte, at int) error {
	encoded, err := frame.OpsOf(f.Kind, body)
	if err != nil {
		return fmt.Errorf("LSN %d: %w", f.LSN, err)
	}
	ops, err := frame.ReadOps(encoded)
	if err != nil {
		return fmt.Errorf("LSN %d: %w", f.LSN, err)
	}
	r.prev = f.Chain
	r.a.sum.Write(r.out[at:]) // a hash's Write never fails
	r.a.note(&f.Header, f.Chain, ops.Len(), len(r.out)-at)
	return nil
}

// Size is how many bytes there are so far.
func (r *Rewrite) Size() int { return len(r.out) }

// Bytes gives the segment, with a footer if it is to be sealed.
func (r *Rewrite) Bytes(sealed bool) []byte {
	if sealed {
		r.out = r.a.footer.Append(r.out, r.a.header.Seed, uint64(len(r.out)), r.a.sum)
	}
	return r.out
}
