package zone

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"time"

	"originchain/shared/durable"
)

// fileVersion is the version of the file's format.
const fileVersion = 1

// maxFileBytes is more than maxNames records take.
const maxFileBytes = 8 << 20

// file is the zone on disk, as JSON.
type file struct {
	Version int      `json:"version"`
	Zone    string   `json:"zone"`
	Serial  uint32   `json:"serial"`
	Records []Record `json:"records"`
}

// load reads the zone's file. Without one the serial begins with the time, so that a
// zone whose file was lost is newer than it was.
func (s *Server) load() (*records, error) {
	path := s.cfg.FS.PathJoin(s.cfg.Dir, s.cfg.File)
	f, err := s.cfg.FS.Open(path)
	if errors.Is(err, iofs.ErrNotExist) {
		return newRecords(uint32(time.Now().Unix()), nil, s.cfg.Zone), nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the zone: %w", err)
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read the zone from %s: %w", path, err)
	}
	// The process before may have ended between the rename and its fsync.
	if err := durable.SyncDir(s.cfg.FS, s.cfg.Dir); err != nil {
		return nil, fmt.Errorf("read the zone: %w", err)
	}
	d, err := s.decode(raw)
	if err != nil {
		return nil, fmt.Errorf("read the zone from %s: %w; correct the file, or remove it and promote again", path, err)
	}
	return d, nil
}

// decode holds what the file says to the rules of Point.
func (s *Server) decode(raw []byte) (*records, error) {
	var in file
	if len(raw) > maxFileBytes {
		return nil, fmt.Errorf("it is larger than %d bytes", maxFileBytes)
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return nil, err
	}
	switch {
	case in.Version != fileVersion:
		return nil, fmt.Errorf("it is of version %d, and this program reads version %d", in.Version, fileVersion)
	case in.Zone != s.cfg.Zone:
		return nil, fmt.Errorf("it is of the zone %q and not of %q", in.Zone, s.cfg.Zone)
	case len(in.Records) > maxNames:
		return nil, fmt.Errorf("it has %d names, at most %d", len(in.Records), maxNames)
	}
	seen := make(map[string]bool, len(in.Records))
	for _, r := range in.Records {
		checked, err := s.record(r.Name, r.Address.String(), time.Duration(r.TTL)*time.Second)
		if err != nil {
			return nil, err
		}
		if checked != r || seen[r.Name] {
			return nil, fmt.Errorf("the record of %q is there twice, or not as this program writes it", r.Name)
		}
		seen[r.Name] = true
	}
	return newRecords(in.Serial, in.Records, s.cfg.Zone), nil
}

// save makes d durable as one step: temporary, fsync, rename, fsync of the directory. A
// crash at any moment leaves the zone of before or of after.
func (s *Server) save(d *records) error {
	raw, err := json.MarshalIndent(file{Version: fileVersion, Zone: s.cfg.Zone, Serial: d.serial, Records: d.sorted()}, "", " ")
	if err != nil {
		return err
	}
	path := s.cfg.FS.PathJoin(s.cfg.Dir, s.cfg.File)
	return durable.Replace(durable.On(s.cfg.FS), path, path+".tmp", append(raw, '\n'))
}
