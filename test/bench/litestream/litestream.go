// Package litestream replicates a SQLite database with Litestream as the peer of a
// benchmark: the program of a release, run as its users do, into a folder.
package litestream

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	_ "modernc.org/sqlite" // the driver
)

const (
	// module is what is installed, at Version.
	module = "github.com/benbjohnson/litestream/cmd/litestream"
	// Version is the release that is compared with.
	Version = "v0.5.18"
	// perTransaction is how many rows a transaction has.
	perTransaction = 10_000
	runWithin      = 5 * time.Minute
)

// ErrNotHere says that there is no Litestream and none could be built.
var ErrNotHere = errors.New("not here")

// Install builds the release into dir and returns its path.
func Install(ctx context.Context, dir string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, runWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "install", module+"@"+Version)
	cmd.Dir = dir // of no module
	cmd.Env = append(environment(), "GOBIN="+dir, "CGO_ENABLED=0", "GOFLAGS=-mod=mod")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("Litestream %s is %w, and installing it failed (%w); build it by hand and give its path: %s", Version, ErrNotHere, err, last(out))
	}
	return filepath.Join(dir, "litestream"), nil
}

// environment is ours without what Litestream's SDK cannot read.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "AWS_CA_BUNDLE=") })
}

// Database is a SQLite database with a replica.
type Database struct {
	program, dir string
	db           *sql.DB
}

// Open makes an empty database below dir.
func Open(ctx context.Context, program, dir string) (*Database, error) {
	d := &Database{program: program, dir: dir}
	db, err := sql.Open("sqlite", "file:"+d.path()+"?_pragma=journal_mode(wal)&_pragma=synchronous(full)&_pragma=wal_autocheckpoint(0)&_pragma=busy_timeout(10000)")
	if err != nil {
		return nil, err
	}
	d.db = db
	if _, err := db.ExecContext(ctx, "CREATE TABLE documents (id INTEGER PRIMARY KEY, text TEXT NOT NULL)"); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	text := fmt.Sprintf("dbs:\n  - path: %s\n    replica:\n      type: file\n      path: %s\n", d.path(), d.replica())
	if err := os.WriteFile(d.config(), []byte(text), 0o600); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return d, nil
}

func (d *Database) path() string    { return filepath.Join(d.dir, "bench.db") }
func (d *Database) replica() string { return filepath.Join(d.dir, "replica") }
func (d *Database) config() string  { return filepath.Join(d.dir, "litestream.yml") }

// Close ends the use of the database; its files are the caller's.
func (d *Database) Close() error { return d.db.Close() }

// Insert writes rows; those that are there get the new text.
func (d *Database) Insert(ctx context.Context, next func() (id int64, text string, ok bool)) error {
	for {
		more, err := d.transaction(ctx, next)
		if err != nil || !more {
			return err
		}
	}
}

func (d *Database) transaction(ctx context.Context, next func() (int64, string, bool)) (more bool, err error) {
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tx.Rollback())
		}
	}()
	put, err := tx.PrepareContext(ctx, "INSERT OR REPLACE INTO documents VALUES (?, ?)")
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, put.Close()) }()
	for range perTransaction {
		id, text, ok := next()
		if !ok {
			return false, tx.Commit()
		}
		if _, err := put.ExecContext(ctx, id, text); err != nil {
			return false, err
		}
	}
	return true, tx.Commit()
}

// Replicate brings the replica up to date.
func (d *Database) Replicate(ctx context.Context, snapshot bool) error {
	args := []string{"replicate", "-config", d.config(), "-once"}
	if snapshot {
		args = append(args, "-force-snapshot")
	}
	_, err := d.run(ctx, args...)
	return err
}

// Restored is what a restore took.
type Restored struct {
	Took time.Duration
	// RSS is the most memory that it had resident, in bytes.
	RSS int64
}

// Restore restores the newest point and counts its rows.
func (d *Database) Restore(ctx context.Context, rows int) (r Restored, err error) {
	to := filepath.Join(d.dir, "restored.db")
	start := time.Now()
	state, err := d.run(ctx, "restore", "-config", d.config(), "-o", to, d.path())
	if err != nil {
		return r, err
	}
	r.Took = time.Since(start)
	if usage, ok := state.SysUsage().(*syscall.Rusage); ok {
		r.RSS = usage.Maxrss << 10
	}
	db, err := sql.Open("sqlite", "file:"+to)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var n int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM documents").Scan(&n); err != nil {
		return r, err
	}
	if n != rows {
		err = fmt.Errorf("SQLite has %d rows after Litestream's restore, %d were written", n, rows)
	}
	return r, err
}

func (d *Database) run(ctx context.Context, args ...string) (*os.ProcessState, error) {
	ctx, cancel := context.WithTimeout(ctx, runWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, d.program, args...)
	cmd.Env = environment()
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("litestream %s: %w: %s", args[0], err, last(out))
	}
	return cmd.ProcessState, nil
}

// last is the end of what a program said.
func last(b []byte) []byte { return bytes.TrimSpace(b[max(0, len(b)-2048):]) }
