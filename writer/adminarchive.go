package writer

import (
	"cmp"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"time"

	"originchain/shared/api"
	"originchain/shared/archive"
	"originchain/shared/fault"
	"originchain/shared/httpx"
)

// Bounds of a list of the archive.
const (
	archiveListed    = 200
	maxArchiveListed = 1000
)

// The values of tail_status.
const (
	tailActive = "active"
	tailPaused = "paused"
	tailOff    = "off"
)

// getArchive lists the newest objects of the archive. A follower lists them too, and
// cannot say what would be lost.
func (s *service) getArchive(c *httpx.Call) (out api.Archive, err error) {
	out.Segments = []api.ArchiveObject{}
	limit := archiveListed
	if text := c.Query("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxArchiveListed {
			return out, fault.New(fault.ValidationFailed, "limit is 1 to %d", maxArchiveListed)
		}
	}
	out.TailStatus = tailOff
	if a := s.node.archiver.Load(); a != nil {
		st := a.shipper.Status()
		out.TailStatus, out.RPOSeconds = tailStatus(st.Tail), &st.RPOSeconds
	}
	store := s.node.cfg.Archive.Store
	if store == nil {
		return out, nil
	}
	survey, err := archive.New(store).Survey(c.Context())
	var missing *archive.MissingError
	switch {
	case errors.As(err, &missing): // nothing was shipped yet
		return out, nil
	case err != nil:
		return out, fault.New(fault.NotReady, "the archive cannot be listed now; see the check \"archive\" of GET /ready").WithRetry().Wrap(err)
	}
	objects := archiveObjects(survey)
	out.Segments = objects[:min(limit, len(objects))]
	s.sealed(out.Segments)
	return out, nil
}

func tailStatus(t archive.Tail) string {
	switch t {
	case archive.TailOff:
		return tailOff
	case archive.TailPaused:
		return tailPaused
	}
	return tailActive
}

// archiveObjects are all of a survey, the newest first.
func archiveObjects(s *archive.Survey) []api.ArchiveObject {
	out := make([]api.ArchiveObject, 0, len(s.Segments)+len(s.Parts)+len(s.Checkpoints))
	for _, x := range s.Segments {
		out = append(out, api.ArchiveObject{Kind: "segment", LSNStart: uint64(x.Key.First), LSNEnd: uint64(x.Key.Last), SizeBytes: x.Size, Compressed: true, Key: x.Key.String()})
	}
	for _, x := range s.Parts {
		out = append(out, api.ArchiveObject{Kind: "tail", LSNStart: uint64(x.Key.From), LSNEnd: uint64(x.Key.To), SizeBytes: x.Size, Compressed: true, Key: x.Key.String()})
	}
	for i := range s.Checkpoints {
		x := &s.Checkpoints[i]
		at, sum := time.UnixMicro(x.Stamp).UTC(), hex.EncodeToString(x.FilesSHA256[:])
		out = append(out, api.ArchiveObject{Kind: "checkpoint", LSNStart: uint64(x.LSN), LSNEnd: uint64(x.LSN), SealedAt: &at, SHA256: &sum, SizeBytes: x.Bytes, Key: x.Key().String()})
	}
	slices.SortFunc(out, func(a, b api.ArchiveObject) int {
		return cmp.Or(cmp.Compare(b.LSNEnd, a.LSNEnd), cmp.Compare(a.Key, b.Key))
	})
	return out
}

// sealed completes what this node's own log knows of an object.
func (s *service) sealed(objects []api.ArchiveObject) {
	stamps := make(map[uint64]int64)
	for _, x := range s.engine.Log().Segments() {
		stamps[uint64(x.Last)] = x.LastTimestamp
	}
	for i := range objects {
		if stamp := stamps[objects[i].LSNEnd]; objects[i].SealedAt == nil && stamp != 0 {
			at := time.UnixMicro(stamp).UTC()
			objects[i].SealedAt = &at
		}
	}
}

// shipping is what ships to the archive from here.
func (s *service) shipping() (*archiver, error) {
	a := s.node.archiver.Load()
	switch {
	case a != nil:
		return a, nil
	case s.node.cfg.Archive.Store == nil:
		return nil, fault.New(fault.NotFound, "this node has no archive; start it with --archive")
	}
	f := fault.New(fault.ReadOnly, "only the writer ships to the archive")
	if leader := s.node.now().Leader(); leader != "" {
		f = f.With("leader", leader)
	}
	return nil, f
}

func (s *service) pauseTail(*httpx.Call) (out api.TailStatus, err error) {
	a, err := s.shipping()
	if err != nil {
		return out, err
	}
	if !a.cfg.Tail {
		return out, fault.New(fault.Conflict, "the node does not ship the open segment; start it with --tail-ship")
	}
	a.shipper.PauseTail()
	return api.TailStatus{TailStatus: tailStatus(a.shipper.Status().Tail)}, nil
}

func (s *service) resumeTail(*httpx.Call) (out api.TailStatus, err error) {
	a, err := s.shipping()
	if err != nil {
		return out, err
	}
	if !a.cfg.Tail {
		return out, fault.New(fault.Conflict, "the node does not ship the open segment; start it with --tail-ship")
	}
	a.shipper.ResumeTail()
	return api.TailStatus{TailStatus: tailStatus(a.shipper.Status().Tail)}, nil
}

// shipCheckpoint answers when the checkpoint is in the archive.
func (s *service) shipCheckpoint(c *httpx.Call) (out api.ShippedCheckpoint, err error) {
	a, err := s.shipping()
	if err != nil {
		return out, err
	}
	made, err := a.checkpoint(c.Context())
	switch {
	case errors.Is(err, archive.ErrNotConnected), errors.Is(err, archive.ErrAboveCommit), errors.Is(err, archive.ErrNotOwnEpoch):
		return out, fault.New(fault.NotReady, "no checkpoint can be shipped now: %v", err).WithRetry()
	case err != nil:
		return out, err
	}
	c.SetObject("checkpoint/" + made.at.Pos.String())
	return api.ShippedCheckpoint{LSN: uint64(made.at.Pos.LSN), Epoch: uint64(made.at.Pos.Epoch), Digest: made.at.Digest.String()}, nil
}
