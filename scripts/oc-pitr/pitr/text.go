package pitr

import (
	"fmt"
	"io"
	"strings"
	"time"

	"originchain/shared/progress"
	"originchain/shared/restore"
)

func moment(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

func count[N ~int64 | ~uint64 | ~int](n N) string { return progress.Thousands(int64(n)) }

// planLine is a plan in a line.
func planLine(p *restore.Plan) string {
	from := "LSN 1"
	if p.Checkpoint != nil {
		from = fmt.Sprintf("the checkpoint at LSN %d", p.Checkpoint.LSN)
	}
	return fmt.Sprintf("instance %s, line of epoch %d, to LSN %d (%s) from %s: %s bytes, %s frames to replay",
		p.Instance, p.Line, p.Target.LSN, moment(p.Target.Time), from, count(p.Bytes()), count(p.Frames))
}

func resultText(w io.Writer, r *restore.Result) {
	verified := "verified: every key was read back, and their digest is the one that the log has there"
	if !r.Verified {
		verified = "NOT verified: the digest is not the one that the log has there, and was accepted"
	}
	_, _ = fmt.Fprintf(w, "restored %s: LSN %d of epoch %d, %s, digest %s\n  %s\n  %s keys, %s bytes fetched, %.1f s\n",
		r.DataDir, r.LSN, r.Epoch, moment(r.Timestamp), r.Digest, verified, count(r.Keys), count(r.BytesFetched), r.Seconds)
	if r.CheckpointLSN > 0 {
		_, _ = fmt.Fprintf(w, "  made of the checkpoint at LSN %d and the log behind it\n", r.CheckpointLSN)
	} else {
		_, _ = fmt.Fprintf(w, "  made of the log alone, from LSN 1 on\n")
	}
	faults(w, r.Unread)
	switch {
	case r.AcceptedEpoch > 0:
		_, _ = fmt.Fprintf(w, "  it is the history of instance %s from now on: epoch %d was taken\n", r.Instance, r.AcceptedEpoch)
	case r.Paused:
		_, _ = fmt.Fprintf(w, "  it opens read-only, until oc-pitr accept\n")
	default:
		_, _ = fmt.Fprintf(w, "  opened alone it becomes a new instance; with --archive or --control it is read-only, until oc-pitr accept\n")
	}
}

func planText(w io.Writer, p *restore.Plan, e *restore.Estimate) {
	checkpoint := "none is needed: the replay begins at LSN 1"
	if c := p.Checkpoint; c != nil {
		checkpoint = fmt.Sprintf("LSN %d of epoch %d, %s, %s bytes", c.LSN, c.Epoch, moment(time.UnixMicro(c.Stamp)), count(c.Bytes))
	}
	_, _ = fmt.Fprintf(w, "dry run, nothing is restored\n  target       LSN %d of epoch %d, %s, on the line of epoch %d\n  checkpoint   %s\n",
		p.Target.LSN, p.Target.Epoch, moment(p.Target.Time), p.Line, checkpoint)
	_, _ = fmt.Fprintf(w, "  log          %s frames, in %d segments and %d parts of the tail, %s bytes\n  fetched      %s bytes\n",
		count(p.Frames), p.Segments, p.Parts, count(p.LogBytes), count(p.Bytes()))
	_, _ = fmt.Fprintf(w, "  recoverable  from LSN %d (%s)\n               until LSN %d (%s)\n", p.From.LSN, moment(p.From.Time), p.Until.LSN, moment(p.Until.Time))
	for _, g := range p.Gaps {
		_, _ = fmt.Fprintf(w, "  gap          LSN %d to %d\n", g.From, g.To)
	}
	ph := &e.Phases
	_, _ = fmt.Fprintf(w, "  estimate     %.1f s: plan %.1f, checkpoint %.1f, replay %.1f, flush %.1f, scan %.1f, finish %.1f (a probe of %s bytes: %s bytes/s of the checkpoint, %s frames/s replayed, %s bytes/s scanned)\n",
		e.Seconds, ph.Plan, ph.Checkpoint, ph.Replay, ph.Flush, ph.Scan, ph.Finish, count(e.ProbeBytes), count(e.FetchBytesPerSecond), count(e.ReplayFramesPerSecond), count(e.ScanBytesPerSecond))
	if e.NoDisk != "" {
		_, _ = fmt.Fprintf(w, "               without the disk, which was not measured: %s\n", e.NoDisk)
	}
	faults(w, p.Faults)
}

func faults(w io.Writer, list []string) {
	for _, f := range list {
		_, _ = fmt.Fprintf(w, "  FAULT        %s\n", f)
	}
}

func listText(w io.Writer, l *restore.Listing) {
	_, _ = fmt.Fprintf(w, "%s, instance %s, region %q\n", l.Archive, l.Instance, l.Region)
	for i := range l.Lines {
		lineText(w, &l.Lines[i])
	}
	if l.Purges > 0 {
		_, _ = fmt.Fprintf(w, "%d purges\n", l.Purges)
	}
	faults(w, l.Faults)
}

func lineText(w io.Writer, l *restore.ListedLine) {
	newest := ""
	if l.Newest {
		newest = ", the newest"
	}
	epochs := make([]string, 0, len(l.Epochs))
	for _, e := range l.Epochs {
		epochs = append(epochs, fmt.Sprintf("%d from LSN %d", e.Epoch, e.From))
	}
	_, _ = fmt.Fprintf(w, "line of epoch %d%s (epochs %s)\n", l.Epoch, newest, strings.Join(epochs, ", "))
	for _, x := range l.Windows {
		_, _ = fmt.Fprintf(w, "  recoverable  LSN %d to %d, %s to %s\n", x.From.LSN, x.Until.LSN, moment(x.From.Time), moment(x.Until.Time))
	}
	for _, c := range l.Checkpoints {
		_, _ = fmt.Fprintf(w, "  checkpoint   LSN %d, %s, %s bytes\n", c.LSN, moment(c.Time), count(c.Bytes))
	}
	for _, r := range l.Ranges {
		tail := ""
		if r.TailFrom > 0 {
			tail = fmt.Sprintf(", tail from LSN %d", r.TailFrom)
		}
		_, _ = fmt.Fprintf(w, "  log          LSN %d to %d, %d segments, %d parts, %s bytes%s\n", r.From, r.To, r.Segments, r.Parts, count(r.Bytes), tail)
	}
	for _, g := range l.Gaps {
		_, _ = fmt.Fprintf(w, "  GAP          LSN %d to %d\n", g.From, g.To)
	}
	if l.Missing != "" {
		_, _ = fmt.Fprintf(w, "  MISSING      %s: the line is known no further back\n", l.Missing)
	}
	if len(l.Windows) == 0 {
		_, _ = fmt.Fprintf(w, "  nothing can be restored on this line\n")
	}
}
