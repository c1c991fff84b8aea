// Package postgres runs a private PostgreSQL cluster as the peer of a
// benchmark: a directory of its own, a unix socket and no other address, and
// the defaults of initdb, which are durable ones.
package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Cluster is a running PostgreSQL.
type Cluster struct {
	// Version is as the server says it, such as "15.20".
	Version string
	dir     string
	bin     string
	account *syscall.Credential // nil: our own
}

const (
	// superuser is the account PostgreSQL runs as when we are root: it refuses to be root.
	superuser = "postgres"
	// aptPackage is installed when no PostgreSQL is there and we may.
	aptPackage = "postgresql-15"
	startLimit = time.Minute
	// benchGrace is how much longer than its duration pgbench may run.
	benchGrace = time.Minute
)

// script is one transaction of pgbench: a row like OriginChain's, under a fresh key.
const script = `\set delay random(-40, 159)
\set distance random(100, 2599)
INSERT INTO flights VALUES (nextval('flight_ids'), '2001/01/14 21:55', :delay, :distance, 'HNL', 'SFO');
`

const tables = `CREATE SEQUENCE flight_ids;
CREATE TABLE flights (id bigint PRIMARY KEY, date text NOT NULL, delay bigint NOT NULL, distance bigint NOT NULL, origin text NOT NULL, destination text NOT NULL);
`

// Start makes a cluster below dir and starts it. Stop ends it and removes it.
func Start(ctx context.Context, dir string) (_ *Cluster, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("PostgreSQL did not start within %s", startLimit))
	defer cancel()
	c := &Cluster{}
	if c.bin, err = find(ctx); err != nil {
		return nil, err
	}
	if c.dir, err = os.MkdirTemp(base(dir), "pg-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Stop())
		}
	}()
	if err := c.adopt(); err != nil {
		return nil, err
	}
	if _, err := c.run(ctx, "initdb", "--pgdata", c.data(), "--username", superuser, "--auth", "trust", "--encoding", "UTF8", "--locale", "C"); err != nil {
		return nil, err
	}
	options := fmt.Sprintf("-c listen_addresses='' -c unix_socket_directories='%s' -c max_connections=200", c.dir)
	if _, err := c.run(ctx, "pg_ctl", "--pgdata", c.data(), "--log", filepath.Join(c.dir, "log"), "--options", options, "--wait", "start"); err != nil {
		return nil, err
	}
	out, err := c.run(ctx, "psql", "--host", c.dir, "--username", superuser, "--dbname", "postgres", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align",
		"--command", tables, "--command", "SHOW server_version", "--command", "SHOW fsync", "--command", "SHOW synchronous_commit")
	if err != nil {
		return nil, err
	}
	said := strings.Fields(out)
	// A peer that does not sync is no peer.
	if len(said) < 3 || !slices.Equal(said[len(said)-2:], []string{"on", "on"}) {
		return nil, fmt.Errorf("PostgreSQL is not durable here: version, fsync and synchronous_commit are %q", out)
	}
	c.Version = said[0]
	return c, os.WriteFile(filepath.Join(c.dir, "insert.sql"), []byte(script), 0o644)
}

// base is where the cluster goes: the system's temporary directory when it is on
// the disk that is measured, because the user that runs the cluster can reach it
// and a socket's path has 107 bytes at most; else dir.
func base(dir string) string {
	var want, have syscall.Stat_t
	tmp := os.TempDir()
	if syscall.Stat(dir, &want) == nil && syscall.Stat(tmp, &have) == nil && want.Dev == have.Dev {
		return tmp
	}
	return dir
}

// find returns the directory of PostgreSQL's programs, installing them when
// they are not there and this is a Debian on which we may.
func find(ctx context.Context) (string, error) {
	if dir, ok := newest(); ok {
		return dir, nil
	}
	out, err := exec.CommandContext(ctx, "apt-get", "install", "--yes", "--no-install-recommends", aptPackage).CombinedOutput()
	if err == nil {
		if dir, ok := newest(); ok {
			return dir, nil
		}
	}
	return "", fmt.Errorf("no PostgreSQL to compare with, and installing it failed (%w): install %s by hand, then run the benchmark again\n%s", err, aptPackage, lastLine(out))
}

// newest finds Debian's layout, then whatever is on the PATH.
func newest() (string, bool) {
	dirs, err := filepath.Glob("/usr/lib/postgresql/*/bin/pg_ctl")
	if err == nil && len(dirs) > 0 {
		slices.Sort(dirs)
		return filepath.Dir(dirs[len(dirs)-1]), true
	}
	if path, err := exec.LookPath("pg_ctl"); err == nil {
		return filepath.Dir(path), true
	}
	return "", false
}

// adopt gives the directory to the account that PostgreSQL will run as.
func (c *Cluster) adopt() error {
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup(superuser)
	if err != nil {
		return fmt.Errorf("PostgreSQL refuses to run as root and there is no account %q: %w", superuser, err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return err
	}
	c.account = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return errors.Join(os.Chown(c.dir, int(uid), int(gid)), passable(filepath.Dir(c.dir)))
}

// passable lets the account reach its directory through ours, which is
// temporary and was made for its owner alone.
func passable(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	return os.Chmod(dir, info.Mode().Perm()|0o111)
}

func (c *Cluster) data() string { return filepath.Join(c.dir, "data") }

// run runs one of PostgreSQL's programs and returns what it prints.
func (c *Cluster) run(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, program), args...)
	cmd.Dir = c.dir
	// pg_ctl's server keeps our pipes open if it gets them: files end with it.
	out, err := os.CreateTemp("", "pg-out-")
	if err != nil {
		return "", err
	}
	defer func() { _ = errors.Join(out.Close(), os.Remove(out.Name())) }() // it has been read
	var problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = out, out
	if program != "pg_ctl" {
		cmd.Stderr = &problem
	}
	if c.account != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.account}
	}
	err = cmd.Run()
	text, readErr := os.ReadFile(out.Name())
	if err = errors.Join(err, readErr); err != nil {
		return "", fmt.Errorf("%s: %w: %s %s", program, err, lastLine(text), lastLine(problem.Bytes()))
	}
	return string(text), nil
}

var tpsLine = regexp.MustCompile(`(?m)^tps = ([0-9.]+) `)

// Inserts runs single-row inserts with prepared statements over so many
// connections, and returns how many there were per second.
func (c *Cluster) Inserts(ctx context.Context, clients int, period time.Duration) (perSecond float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, period+benchGrace)
	defer cancel()
	out, err := c.bench(ctx, period, "--client", strconv.Itoa(clients), "--jobs", "2")
	if err != nil {
		return 0, err
	}
	m := tpsLine.FindStringSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("pgbench did not say how many transactions per second it reached: %s", out)
	}
	return strconv.ParseFloat(m[1], 64)
}

// bench runs pgbench with the script.
func (c *Cluster) bench(ctx context.Context, period time.Duration, args ...string) (string, error) {
	seconds := max(1, int(period.Round(time.Second).Seconds()))
	return c.run(ctx, "pgbench", append([]string{"--no-vacuum", "--protocol", "prepared", "--time", strconv.Itoa(seconds),
		"--file", filepath.Join(c.dir, "insert.sql"), "--host", c.dir, "--username", superuser, "postgres"}, args...)...)
}

// Stop ends the cluster and removes its directory.
func (c *Cluster) Stop() error {
	var err error
	for _, data := range []string{c.standbyData(), c.data()} {
		if _, running := os.Stat(filepath.Join(data, "postmaster.pid")); running == nil {
			_, stopped := c.run(context.Background(), "pg_ctl", "--pgdata", data, "--mode", "immediate", "--wait", "stop")
			err = errors.Join(err, stopped)
		}
	}
	return errors.Join(err, os.RemoveAll(c.dir))
}

func lastLine(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1]
}
