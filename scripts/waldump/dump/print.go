package dump

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"originchain/shared/frame"
)

// stamp prints microseconds since 1970 as people read time.
func stamp(micros int64) string { return time.UnixMicro(micros).UTC().Format(time.RFC3339Nano) }

// text prints lines.
type text struct {
	out io.Writer
	key KeyFormatter
}

func newText(out io.Writer, key KeyFormatter) *text { return &text{out: out, key: key} }

func (t *text) header(path string, h *frame.SegmentHeader) {
	fmt.Fprintf(t.out, "segment %s\n", path)
	fmt.Fprintf(t.out, "  header  instance=%x epoch=%d first_lsn=%d prev_chain=%s prev_digest=%s prev_stamp=%s seed=%016x\n",
		h.Instance, h.Epoch, h.First, short(h.PrevChain), h.PrevDigest, stamp(h.PrevTimestamp), h.Seed)
}

func (t *text) frame(f *frame.Frame, offset int64, ops int) {
	fmt.Fprintf(t.out, "  %-7s lsn=%d epoch=%d stamp=%s ops=%d bytes=%d offset=%d synced=%d digest=%s chain=%s",
		f.Kind, f.LSN, f.Epoch, stamp(f.Timestamp), ops, f.Stored, offset, f.Synced, f.Digest, short(f.Chain))
	if f.Redacted {
		fmt.Fprint(t.out, " redacted")
	}
	if r := record(f); r != "" {
		fmt.Fprint(t.out, " ", r)
	}
	fmt.Fprintln(t.out)
}

func (t *text) op(o *frame.Op) {
	fmt.Fprintf(t.out, "          %s %s", o.Type, t.key(o.Key))
	switch o.Type {
	case frame.Put:
		fmt.Fprintf(t.out, " value_bytes=%d", len(o.Value))
	case frame.RangeDelete:
		fmt.Fprintf(t.out, " to %s", t.key(o.End))
	}
	if o.HadOld {
		fmt.Fprintf(t.out, " old=%s", o.Old)
	}
	fmt.Fprintln(t.out)
}

func (t *text) footer(f *frame.Footer) {
	fmt.Fprintf(t.out, "  footer  frames=%d ops=%d last_lsn=%d last_stamp=%s index_entries=%d digest=%s chain=%s sha256=%x\n",
		f.Frames, f.Ops, f.Last, stamp(f.Timestamp), len(f.Index), f.Digest, short(f.Chain), f.SHA256)
}

func (t *text) verdict(path string, v verdict) {
	word := "ok"
	if !v.OK {
		word = "BAD"
	}
	fmt.Fprintf(t.out, "%-4s %s: %s\n", word, path, v.Detail)
}

// jsonLines prints one object per line; "type" tells them apart.
type jsonLines struct {
	enc *json.Encoder
	key KeyFormatter
}

func newJSON(out io.Writer, key KeyFormatter) *jsonLines {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	return &jsonLines{enc: enc, key: key}
}

// put encodes v. Its only error is the writer's, which Flush reports.
func (j *jsonLines) put(v any) { _ = j.enc.Encode(v) }

func (j *jsonLines) header(path string, h *frame.SegmentHeader) {
	j.put(struct {
		Type       string `json:"type"`
		Path       string `json:"path"`
		Instance   string `json:"instance"`
		Epoch      uint64 `json:"epoch"`
		FirstLSN   uint64 `json:"first_lsn"`
		PrevChain  string `json:"prev_chain"`
		PrevDigest string `json:"prev_digest"`
		PrevStamp  string `json:"prev_stamp"`
		Seed       string `json:"seed"`
	}{"header", path, fmt.Sprintf("%x", h.Instance), uint64(h.Epoch), uint64(h.First), h.PrevChain.String(),
		h.PrevDigest.String(), stamp(h.PrevTimestamp), fmt.Sprintf("%016x", h.Seed)})
}

func (j *jsonLines) frame(f *frame.Frame, offset int64, ops int) {
	j.put(struct {
		Type     string `json:"type"`
		LSN      uint64 `json:"lsn"`
		Epoch    uint64 `json:"epoch"`
		Kind     string `json:"kind"`
		Stamp    string `json:"stamp"`
		Wall     string `json:"wall"`
		Ops      int    `json:"ops"`
		Bytes    int    `json:"bytes"`
		Offset   int64  `json:"offset"`
		Synced   uint64 `json:"synced_lsn"`
		Digest   string `json:"digest"`
		Chain    string `json:"chain"`
		Redacted bool   `json:"redacted,omitempty"`
		Record   string `json:"record,omitempty"`
	}{"frame", uint64(f.LSN), uint64(f.Epoch), f.Kind.String(), stamp(f.Timestamp), stamp(f.Wall), ops, f.Stored,
		offset, uint64(f.Synced), f.Digest.String(), f.Chain.String(), f.Redacted, record(f)})
}

func (j *jsonLines) op(o *frame.Op) {
	line := struct {
		Type       string `json:"type"`
		Op         string `json:"op"`
		Key        string `json:"key"`
		End        string `json:"end,omitempty"`
		ValueBytes *int   `json:"value_bytes,omitempty"`
		Old        string `json:"old,omitempty"`
	}{Type: "op", Op: o.Type.String(), Key: j.key(o.Key)}
	switch o.Type {
	case frame.Put:
		n := len(o.Value)
		line.ValueBytes = &n
	case frame.RangeDelete:
		line.End = j.key(o.End)
	}
	if o.HadOld {
		line.Old = o.Old.String()
	}
	j.put(line)
}

func (j *jsonLines) footer(f *frame.Footer) {
	j.put(struct {
		Type    string `json:"type"`
		Frames  uint64 `json:"frames"`
		Ops     uint64 `json:"ops"`
		LastLSN uint64 `json:"last_lsn"`
		Stamp   string `json:"last_stamp"`
		Index   int    `json:"index_entries"`
		Digest  string `json:"digest"`
		Chain   string `json:"chain"`
		SHA256  string `json:"sha256"`
	}{"footer", f.Frames, f.Ops, uint64(f.Last), stamp(f.Timestamp), len(f.Index), f.Digest.String(), f.Chain.String(), fmt.Sprintf("%x", f.SHA256)})
}

func (j *jsonLines) verdict(path string, v verdict) {
	j.put(struct {
		Type string `json:"type"`
		Path string `json:"path"`
		verdict
	}{"verdict", path, v})
}
