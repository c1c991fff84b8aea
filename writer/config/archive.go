package config

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"originchain/shared/object"
)

// Bounds of the archive's times.
const (
	minTailWindowMS       = 50
	maxTailWindowMS       = 60_000
	minCheckpointInterval = time.Minute
	minRetention          = time.Hour
)

// validateArchive checks what the archive needs. Whether it is there is for the node
// to find out.
func (c *Config) validateArchive() (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if c.Archive != "" {
		if err := checkArchive(c.Archive); err != nil {
			fault("--archive: %v", err)
		}
	}
	switch {
	case c.TailShip && c.Archive == "":
		fault("--tail-ship needs --archive, which says where to")
	case c.TailWindowMS < minTailWindowMS || c.TailWindowMS > maxTailWindowMS:
		fault("--tail-window-ms %d: it is %d to %d", c.TailWindowMS, minTailWindowMS, maxTailWindowMS)
	}
	if c.AllowCrossRegion && c.Archive == "" {
		fault("--allow-cross-region is about --archive, which is not given")
	}
	if c.CheckpointInterval < minCheckpointInterval {
		fault("--checkpoint-interval %s: the shortest is %s", c.CheckpointInterval, minCheckpointInterval)
	}
	if c.Retention < minRetention {
		fault("--retention %s: the shortest is %s", c.Retention, minRetention)
	}
	return faults
}

// checkArchive says whether a URL is one of an archive, without going there.
func checkArchive(text string) error {
	_, err := object.Open(context.Background(), text, map[string]object.Opener{
		"s3": func(_ context.Context, u *url.URL) (object.Store, error) {
			if u.Host == "" {
				return nil, fmt.Errorf("%w: %s has no bucket; give s3://bucket/prefix", object.ErrURL, u)
			}
			return nil, nil
		},
	})
	return err
}
