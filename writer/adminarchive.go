package writer

import (
	"errors"
	"strconv"

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

// getArchive lists the newest objects of the archive, and says up to where it can be
// restored. A follower lists them too, and cannot say what would be lost.
func (s *service) getArchive(c *httpx.Call) (out api.Archive, err error) {
	out.Segments = []api.ArchiveObject{}
	limit := archiveListed
	if text := c.Query("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxArchiveListed {
			return out, fault.New(fault.ValidationFailed, "limit is 1 to %d", maxArchiveListed)
		}
	}
	out.TailStatus = tailOff
	if s.node.listing == nil {
		return out, nil
	}
	l := &archiveListing{a: s.node.listing, local: s.engine.Log().Segments()}
	if a := s.node.archiver.Load(); a != nil {
		l.shipper = a.shipper
		st := a.shipper.Status()
		out.TailStatus, out.RPOSeconds = tailStatus(st.Tail), &st.RPOSeconds
	}
	l.survey, err = l.a.Survey(c.Context())
	var missing *archive.MissingError
	switch {
	case errors.As(err, &missing): // nothing was shipped yet
		return out, nil
	case err != nil:
		return out, fault.New(fault.NotReady, "the archive cannot be listed now; see the check \"archive\" of GET /ready").WithRetry().Wrap(err)
	}
	objects := l.objects()
	out.Segments = objects[:min(limit, len(objects))]
	if last, at, ok := l.recoverable(c.Context()); ok {
		out.RecoverableLSN, out.RecoverableUntil = (*uint64)(&last), at
	}
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
