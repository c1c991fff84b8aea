// Package devca is a certificate authority for development and tests: it makes
// the directories that package mtls reads. It is no authority for production,
// where its private key would be kept away from the nodes.
//
//	DIR/ca.key          the authority's private key
//	DIR/ca.crt          the authority
//	DIR/NODE/ca.crt     the same
//	DIR/NODE/node.crt   the node's certificate
//	DIR/NODE/node.key   its private key
//
// What is there and good is kept, what is missing is made, what is near its end
// is renewed with the key it has, so that each change is one rename. What is
// there and is not what this package makes is refused: it is somebody's.
package devca

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"originchain/shared/mtls"
)

const (
	// CAKeyFile is the authority's private key, in the directory of all.
	CAKeyFile = "ca.key"
	// MaxDays is how long a node's certificate may be good for.
	MaxDays = 3650

	day = 24 * time.Hour
	// caDays is how long the authority is good for: longer than any certificate
	// under it, which is cut to its end.
	caDays = 2 * MaxDays
	// nearEnd is the share of its life in which a certificate is renewed: the
	// last one in that many.
	nearEnd = 3
	// backdated is how far clocks of machines may differ.
	backdated = time.Hour

	// unfinished are the names of files that are being written.
	unfinished = ".new-*"

	dirMode  = 0o700
	keyMode  = 0o600
	certMode = 0o644
)

// ErrForeign is something in the directory that this package did not make.
var ErrForeign = errors.New("is not what this command makes")

// Options say what is wanted.
type Options struct {
	Dir   string
	Nodes []string
	// Hosts are DNS names and addresses that the certificates name beside the
	// node. nil: those that a certificate has already, DefaultHosts for a new one.
	Hosts []string
	// Days is how long a new certificate is good for.
	Days int
	Now  time.Time
}

// DefaultNodes and DefaultHosts are those of a pair on one machine.
func DefaultNodes() []string { return []string{"writer", "follower"} }

// DefaultHosts are the names of the machine itself.
func DefaultHosts() []string { return []string{"localhost", "127.0.0.1", "::1"} }

// Step is what was done about one file.
type Step struct {
	File string `json:"file"`
	// Did is "made", "renewed", "replaced", "closed" (to other users) or "kept".
	Did string `json:"did"`
	// Note says what the file is, or why it was touched.
	Note string `json:"note"`
}

// nodeName is what --node-id accepts, as far as it is a directory's name that
// is not hidden.
var nodeName = regexp.MustCompile(`^[0-9A-Za-z_-][0-9A-Za-z._-]{0,63}$`)

// hostName is a DNS name, with a wildcard at most in front.
var hostName = regexp.MustCompile(`^(\*\.)?([0-9A-Za-z_]([0-9A-Za-z_-]{0,61}[0-9A-Za-z_])?\.)*[0-9A-Za-z_]([0-9A-Za-z_-]{0,61}[0-9A-Za-z_])?$`)

// Validate lists every fault of the options.
func (o Options) Validate() (faults []string) {
	if o.Dir == "" {
		faults = append(faults, "--dir: name the directory for the certificates")
	}
	if len(o.Nodes) == 0 {
		faults = append(faults, "--node: name at least one node")
	}
	for _, node := range o.Nodes {
		if !nodeName.MatchString(node) {
			faults = append(faults, fmt.Sprintf("--node %q: use 1 to 64 letters, digits, '.', '_' or '-', without a '.' in front; it is the node's --node-id", node))
		}
	}
	for _, host := range o.Hosts {
		if net.ParseIP(host) == nil && (len(host) > 253 || !hostName.MatchString(host)) {
			faults = append(faults, fmt.Sprintf("--host %q: give a DNS name or an address, without a port", host))
		}
	}
	if o.Days < 1 || o.Days > MaxDays {
		faults = append(faults, fmt.Sprintf("--days %d: give 1 to %d", o.Days, MaxDays))
	}
	return faults
}

// work is one run.
type work struct {
	Options
	steps []Step
}

// Make does what is wanted and reports what it did, also when it fails. Only one
// run at a time works on a directory.
func Make(o Options) ([]Step, error) {
	if faults := o.Validate(); len(faults) > 0 {
		return nil, errors.New(strings.Join(faults, "\n"))
	}
	if err := os.MkdirAll(o.Dir, dirMode); err != nil {
		return nil, err
	}
	unlock, err := lock(o.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	w := &work{Options: o}
	if err := sweep(o.Dir); err != nil {
		return nil, err
	}
	ca, err := w.authority()
	if err != nil {
		return w.steps, err
	}
	for i, node := range o.Nodes {
		if slices.Contains(o.Nodes[:i], node) {
			continue
		}
		if err := w.node(ca, node); err != nil {
			return w.steps, err
		}
	}
	return w.steps, nil
}

// lock takes the directory for this run.
func lock(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		return nil, fmt.Errorf("%s: another run is at work on it (%w); wait for it to end", dir, err)
	}
	return func() { _ = f.Close() }, nil // which gives the lock back
}

// did reports a step.
func (w *work) did(file, did, format string, args ...any) {
	w.steps = append(w.steps, Step{File: file, Did: did, Note: fmt.Sprintf(format, args...)})
}

func foreign(path, format string, args ...any) error {
	return fmt.Errorf("%s %w: %s; move it away and run this again", path, ErrForeign, fmt.Sprintf(format, args...))
}

// put replaces a file by a rename: a reader, or a machine that stops, sees the
// old one or the new one.
func put(path string, content []byte, mode os.FileMode) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, unfinished)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(content)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// sweep removes what a run that was killed had not finished: it may be a key.
func sweep(dir string) error {
	names, err := filepath.Glob(filepath.Join(dir, unfinished))
	for _, name := range names {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// node makes what one node needs.
func (w *work) node(ca *authority, node string) error {
	dir := filepath.Join(w.Dir, node)
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return err
	}
	if err := sweep(dir); err != nil {
		return err
	}
	if err := w.copyAuthority(ca, filepath.Join(dir, mtls.CAFile)); err != nil {
		return err
	}
	return w.identity(ca, dir, mtls.Peer{Node: node})
}
