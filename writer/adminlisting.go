package writer

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"time"

	"originchain/shared/api"
	"originchain/shared/archive"
	"originchain/shared/lsn"
	"originchain/shared/wal"
)

// archiveListing is what the archive holds, and what this node knows of it besides. A
// sealed segment is one compressed stream with its footer at the end, so what only the
// footer says would cost reading all of it, and is not told.
type archiveListing struct {
	a       *archive.Archive
	survey  *archive.Survey
	shipper *archive.Shipper // nil where this node ships nothing
	local   []wal.SegmentInfo
}

// objects are all, the newest first.
func (l *archiveListing) objects() []api.ArchiveObject {
	s := l.survey
	out := make([]api.ArchiveObject, 0, len(s.Segments)+len(s.Parts)+len(s.Checkpoints))
	for i := range s.Segments {
		x := &s.Segments[i]
		o := api.ArchiveObject{Kind: "segment", LSNStart: uint64(x.Key.First), LSNEnd: uint64(x.Key.Last), SizeBytes: x.Size, Compressed: true, Key: x.Key.String()}
		o.SealedAt = moment(l.stamp(archive.Piece{Segment: &x.Key}))
		if f := l.segment(x.Key); f.SHA256 != [32]byte{} {
			sum := hex.EncodeToString(f.SHA256[:])
			o.SHA256 = &sum
		}
		out = append(out, o)
	}
	for i := range s.Parts {
		x := &s.Parts[i]
		o := api.ArchiveObject{Kind: "tail", LSNStart: uint64(x.Key.From), LSNEnd: uint64(x.Key.To), SizeBytes: x.Size, Compressed: true, Key: x.Key.String()}
		o.SealedAt = moment(l.stamp(archive.Piece{Part: &x.Key}))
		out = append(out, o)
	}
	for i := range s.Checkpoints {
		x := &s.Checkpoints[i]
		sum := hex.EncodeToString(x.FilesSHA256[:])
		out = append(out, api.ArchiveObject{Kind: "checkpoint", LSNStart: uint64(x.LSN), LSNEnd: uint64(x.LSN), SealedAt: moment(x.Stamp), SHA256: &sum, SizeBytes: x.Bytes, Key: x.Key().String()})
	}
	slices.SortFunc(out, func(a, b api.ArchiveObject) int {
		return cmp.Or(cmp.Compare(b.LSNEnd, a.LSNEnd), cmp.Compare(a.Key, b.Key))
	})
	return out
}

// moment is a stamp in microseconds; nil where it is not known.
func moment(stamp int64) *time.Time {
	if stamp == 0 {
		return nil
	}
	at := time.UnixMicro(stamp).UTC()
	return &at
}

// segment is what is remembered of a segment; nothing of one that a purge has rewritten.
func (l *archiveListing) segment(k archive.SegmentKey) (f archive.Facts) {
	if l.shipper != nil {
		f, _ = l.shipper.SegmentFacts(k)
	}
	return f
}

// stamp is that of the last frame of an object, as far as this node knows it: 0 if not.
func (l *archiveListing) stamp(p archive.Piece) int64 {
	var f archive.Facts
	var at lsn.Pos
	if p.Segment != nil {
		f, at = l.segment(*p.Segment), lsn.Pos{Epoch: p.Segment.Epoch, LSN: p.Segment.Last}
	} else {
		at = lsn.Pos{Epoch: p.Part.Epoch, LSN: p.Part.To}
		if l.shipper != nil {
			f, _ = l.shipper.PartFacts(*p.Part)
		}
	}
	if f.Stamp != 0 {
		return f.Stamp
	}
	i, ok := slices.BinarySearchFunc(l.local, at.LSN, func(s wal.SegmentInfo, at lsn.LSN) int { return cmp.Compare(s.Last, at) })
	if ok && l.local[i].Epoch == at.Epoch {
		return l.local[i].LastTimestamp
	}
	return 0
}

// recoverable is the last frame that can be restored to on the newest line, and its
// stamp: nil if only a whole segment says it, or the part that does cannot be read.
func (l *archiveListing) recoverable(ctx context.Context) (lsn.LSN, *time.Time, bool) {
	line, ok := l.survey.Line(l.survey.Newest())
	last := line.Recoverable()
	if !ok || last == 0 {
		return 0, nil, false
	}
	for i := range line.Checkpoints {
		if c := &line.Checkpoints[i]; c.LSN == last {
			return last, moment(c.Stamp), true
		}
	}
	r := line.RangeOf(last)
	if r == nil {
		return last, nil, true
	}
	p := r.Pieces[len(r.Pieces)-1]
	stamp := int64(0)
	whole := p.Segment != nil && p.Segment.Last == last || p.Part != nil && p.Part.To == last
	if whole {
		stamp = l.stamp(p)
	}
	if stamp == 0 && p.Part != nil {
		stamp = l.read(ctx, *p.Part, last)
	}
	return last, moment(stamp), true
}

// read reads the stamp of a frame out of a part, which is a few MiB at most.
func (l *archiveListing) read(ctx context.Context, k archive.PartKey, at lsn.LSN) (stamp int64) {
	f, err := l.a.OpenPart(ctx, k, l.survey.Instance.Instance)
	if err != nil {
		return 0
	}
	for {
		fr, err := f.Next()
		if err != nil && !errors.Is(err, io.EOF) {
			stamp = 0
		}
		if err != nil {
			break
		}
		if fr.LSN == at {
			stamp = fr.Timestamp
		}
	}
	if f.Close() != nil {
		return 0
	}
	return stamp
}
