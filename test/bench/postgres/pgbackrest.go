package postgres

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// backrest is the program, and Debian's package of it.
	backrest = "pgbackrest"
	stanza   = "bench"
	// archiveLooks and archivePause bound the wait for the archive, recoverWithin a recovery.
	archiveLooks  = 1200
	archivePause  = 50 * time.Millisecond
	recoverWithin = 5 * time.Minute
)

// ErrNotHere says that a peer is not installed.
var ErrNotHere = errors.New("not here")

// Document is a row of the table of archives.
type Document struct {
	ID   int64
	Text string
}

// Archive archives a cluster with pgBackRest into a folder.
type Archive struct {
	// Version is what pgBackRest says of itself.
	Version string
	c       *Cluster
}

// ArchiveWith starts archiving. The error is ErrNotHere where there is no pgBackRest.
func (c *Cluster) ArchiveWith(ctx context.Context) (*Archive, error) {
	path, err := exec.LookPath(backrest)
	if err != nil {
		return nil, fmt.Errorf("pgBackRest is %w: %w; install Debian's package %s", ErrNotHere, err, backrest)
	}
	a := &Archive{c: c}
	text := fmt.Sprintf("[global]\nrepo1-path=%[1]s/repo\nlock-path=%[1]s/lock\nlog-path=%[1]s\nlog-level-file=off\nspool-path=%[1]s/spool\ncompress-type=lz4\nprocess-max=2\nstart-fast=y\n\n[%[2]s]\npg1-path=%[3]s\npg1-socket-path=%[1]s\npg1-user=%[4]s\n",
		c.dir, stanza, c.data(), superuser)
	if err := os.WriteFile(a.config(), []byte(text), 0o644); err != nil {
		return nil, err
	}
	said, err := a.run(ctx, "version")
	if err != nil {
		return nil, err
	}
	a.Version = strings.TrimPrefix(strings.TrimSpace(said), "pgBackRest ")
	command := fmt.Sprintf("%s --config=%s --stanza=%s archive-push %%p", path, a.config(), stanza)
	if _, err := c.psql(ctx, "ALTER SYSTEM SET archive_mode = 'on'", "ALTER SYSTEM SET archive_command = '"+command+"'", "ALTER SYSTEM SET max_wal_size = '8GB'"); err != nil {
		return nil, err
	}
	if _, err := c.run(ctx, "pg_ctl", "--pgdata", c.data(), "--log", filepath.Join(c.dir, "log"), "--wait", "restart"); err != nil {
		return nil, err
	}
	if _, err := a.run(ctx, "stanza-create"); err != nil {
		return nil, err
	}
	_, err = c.psql(ctx, "CREATE TABLE documents (id bigint PRIMARY KEY, text text NOT NULL)")
	return a, err
}

func (a *Archive) config() string { return filepath.Join(a.c.dir, "pgbackrest.conf") }

// run runs pgBackRest as the cluster's account.
func (a *Archive) run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, backrest, append([]string{"--config=" + a.config(), "--stanza=" + stanza}, args...)...)
	if args[0] == "version" {
		cmd.Args = []string{backrest, "version"}
	}
	cmd.Dir = a.c.dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if a.c.account != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: a.c.account}
	}
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", backrest, args[0], err, bytes.TrimSpace(out.Bytes()[max(0, out.Len()-2048):]))
	}
	return out.String(), nil
}

// Insert adds rows; those that are there get the new text.
func (a *Archive) Insert(ctx context.Context, replace bool, next func() (Document, bool)) error {
	copying := "\\copy documents FROM PSTDIN"
	args := []string{"--host", a.c.dir, "--username", superuser, "--dbname", "postgres", "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1"}
	if replace {
		args = append(args, "--command", "CREATE TEMP TABLE changed (LIKE documents)", "--command", "\\copy changed FROM PSTDIN",
			"--command", "UPDATE documents d SET text = c.text FROM changed c WHERE c.id = d.id")
	} else {
		args = append(args, "--command", copying)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(a.c.bin, "psql"), args...)
	cmd.Dir = a.c.dir
	if a.c.account != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: a.c.account}
	}
	r, w := io.Pipe()
	go func() { _ = w.CloseWithError(writeRows(w, next)) }() // always nil; psql sees what failed
	var problem bytes.Buffer
	cmd.Stdin, cmd.Stderr = r, &problem
	err := cmd.Run()
	if err = errors.Join(err, r.Close()); err != nil {
		return fmt.Errorf("psql: %w: %s", err, lastLine(problem.Bytes()))
	}
	return nil
}

// writeRows writes rows in the text format of COPY, in which base64 needs no escapes.
func writeRows(w io.Writer, next func() (Document, bool)) error {
	out := bufio.NewWriterSize(w, 1<<20)
	var line []byte
	for {
		d, ok := next()
		if !ok {
			return out.Flush()
		}
		line = append(strconv.AppendInt(line[:0], d.ID, 10), '\t')
		line = append(append(line, d.Text...), '\n')
		if _, err := out.Write(line); err != nil {
			return err
		}
	}
}

// Backup takes a full backup.
func (a *Archive) Backup(ctx context.Context) error {
	_, err := a.run(ctx, "backup", "--type=full")
	return err
}

// Settle waits until the archive has all of the log.
func (a *Archive) Settle(ctx context.Context) error {
	name, err := a.c.psql(ctx, "SELECT pg_walfile_name(pg_current_wal_lsn())", "SELECT 'switched' FROM pg_switch_wal()")
	if err != nil {
		return err
	}
	fields := strings.Fields(name)
	if len(fields) == 0 {
		return errors.New("PostgreSQL does not say which file its log is in")
	}
	for range archiveLooks {
		out, err := a.c.psql(ctx, "SELECT last_archived_wal FROM pg_stat_archiver")
		if err != nil {
			return err
		}
		if strings.TrimSpace(out) >= fields[0] {
			return nil
		}
		if err := rest(ctx, archivePause); err != nil {
			return err
		}
	}
	return errors.New("pgBackRest does not archive the log")
}

// Restored says how long a restore took: what pgBackRest did, and what PostgreSQL did
// until it takes writes.
type Restored struct{ Fetch, Recover time.Duration }

// Restore removes the cluster's data and restores it to the end of the log.
func (a *Archive) Restore(ctx context.Context, rows int) (r Restored, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, recoverWithin, fmt.Errorf("not within %s", recoverWithin))
	defer cancel()
	c := a.c
	if _, err := c.run(ctx, "pg_ctl", "--pgdata", c.data(), "--mode", "immediate", "--wait", "stop"); err != nil {
		return r, err
	}
	entries, err := os.ReadDir(c.data())
	if err != nil {
		return r, err
	}
	for _, e := range entries { // the directory itself is the account's
		if err := os.RemoveAll(filepath.Join(c.data(), e.Name())); err != nil {
			return r, err
		}
	}
	start := time.Now()
	if _, err := a.run(ctx, "restore"); err != nil {
		return r, err
	}
	r.Fetch = time.Since(start)
	options := fmt.Sprintf("-c listen_addresses='' -c unix_socket_directories='%s' -c max_connections=200 -c archive_mode=off", c.dir)
	if _, err := c.run(ctx, "pg_ctl", "--pgdata", c.data(), "--log", filepath.Join(c.dir, "log"), "--options", options, "--timeout", "300", "--wait", "start"); err != nil {
		return r, err
	}
	for {
		out, err := c.psql(ctx, "SELECT pg_is_in_recovery()")
		if err == nil && strings.TrimSpace(out) == "f" {
			break
		}
		if err := rest(ctx, archivePause); err != nil {
			return r, err
		}
	}
	r.Recover = time.Since(start) - r.Fetch
	out, err := c.psql(ctx, "SELECT count(*) FROM documents")
	if err == nil && strings.TrimSpace(out) != strconv.Itoa(rows) {
		err = fmt.Errorf("PostgreSQL has %s rows after its restore, %d were written", strings.TrimSpace(out), rows)
	}
	return r, err
}

// rest waits.
func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
