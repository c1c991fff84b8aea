package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"originchain/scripts/call"
	"originchain/scripts/child"
	"originchain/shared/api"
	"originchain/test/bench/load"
)

const (
	readyWithin = time.Minute
	stopWithin  = time.Minute
	// loadGrace is how much longer than its duration a load client may run.
	loadGrace = time.Minute
)

// node is a real server on a directory of its own, with one tenant.
type node struct {
	bench   *bench
	server  *child.Server
	client  *call.Client
	dir     string
	args    []string // further ones
	env     []string // further variables
	address string
	tenant  string
	admin   string // token
	nextID  int64  // of fillDocuments
}

// serve starts a server on an empty directory and makes a tenant.
func (b *bench) serve(ctx context.Context, name string, args ...string) (*node, error) {
	return b.serveWith(ctx, name, nil, args...)
}

// serveWith is serve with variables of its environment.
func (b *bench) serveWith(ctx context.Context, name string, env []string, args ...string) (*node, error) {
	n := &node{bench: b, dir: filepath.Join(b.work, name), env: env, args: args}
	if err := n.start(ctx); err != nil {
		return nil, errors.Join(err, n.close())
	}
	token, err := os.ReadFile(filepath.Join(n.dir, "admin.token"))
	if err != nil {
		return nil, errors.Join(err, n.close())
	}
	n.admin = strings.TrimSpace(string(token))
	admin := call.Client{URL: n.server.URL(), Token: n.admin}
	var made api.CreatedTenant
	if err := admin.JSON(ctx, http.MethodPost, "/v1/admin/tenants", api.CreateTenantRequest{Name: "bench"}, &made); err != nil {
		return nil, errors.Join(err, n.close())
	}
	n.tenant = made.Tenant
	n.client = &call.Client{URL: n.server.URL(), Token: made.Token}
	return n, nil
}

// start brings the server up on the node's directory, which may hold data.
func (n *node) start(ctx context.Context) (err error) {
	if n.address == "" {
		if n.address, err = child.FreeAddress(); err != nil {
			return err
		}
	}
	n.server, err = child.Start(child.Options{Binary: n.bench.binary, DataDir: n.dir, Listen: n.address, Args: append([]string{"--log-level", "warning", "--advertise", "http://" + n.address}, n.args...), Env: n.env})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, readyWithin, fmt.Errorf("not within %s", readyWithin))
	defer cancel()
	return n.server.WaitReady(ctx)
}

func (n *node) stop() error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), stopWithin, fmt.Errorf("not within %s", stopWithin))
	defer cancel()
	return n.server.Stop(ctx)
}

// close ends the server and removes its data.
func (n *node) close() error {
	if n.server == nil {
		return os.RemoveAll(n.dir)
	}
	return errors.Join(n.server.Kill(), os.RemoveAll(n.dir))
}

// load runs a client process against the node.
func (n *node) load(ctx context.Context, s load.Spec) (*load.Result, error) {
	s.Address, s.Tenant, s.Token = n.address, n.tenant, n.client.Token
	in, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.WarmUp+s.Duration+loadGrace)
	defer cancel()
	cmd := exec.CommandContext(ctx, n.bench.self, "load")
	var out, problem bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &problem
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("the load client: %w: %s", err, problem.Bytes())
	}
	var r load.Result
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return nil, fmt.Errorf("the load client's result: %w", err)
	}
	if err := r.Err(); err != nil {
		return nil, err
	}
	if r.Requests == 0 {
		return nil, errors.New("the load client got no answer at all")
	}
	return &r, nil
}

// rows is the exact number of rows that the server counts.
func (n *node) rows(ctx context.Context) (uint64, error) {
	var u api.Usage
	err := n.client.Get(ctx, "/v1/tenants/"+n.tenant+"/usage", &u)
	return u.Used.Rows, err
}
