package main

import (
	"context"
	"fmt"
	"strings"

	"originchain/lambdas/local/layout"
)

// guide says where everything is and how to go on.
func (d *demo) guide(ctx context.Context) error {
	if err := d.writeEnv(); err != nil {
		return err
	}
	status, err := d.runTool(ctx, nil, ocControl, "status", "--dir", d.dir)
	if err != nil {
		return err
	}
	d.sayf(`
The instance is up (oc-control status --dir %s):

%s

  endpoint      %s  (follows the writer)
  follower      %s  (reads; a write there names the writer)
  tenant        %s
  tenant token  %s
  admin token   %s
  archive       %s
  logs          %s
`, d.dir, indented(strings.TrimSpace(string(status))), d.at.Endpoint, d.at.Followers[0], d.at.Tenant, d.at.TokenFile, d.at.AdminTokenFile, d.place.Archive(), d.place.Logs())
	if d.once {
		return nil
	}
	return d.next(ctx)
}

// next says what to try.
func (d *demo) next(ctx context.Context) error {
	s, err := d.plane().Status(ctx)
	if err != nil {
		return err
	}
	d.sayf(`
Go on in another terminal:

  . %[1]s
  curl -sS "$OC_URL/v1/tenants/$OC_TENANT/rows/demo.airports/HNL" -H "Authorization: Bearer $OC_TOKEN"
  curl -sS "$OC_URL/v1/tenants/$OC_TENANT/sql" -H "Authorization: Bearer $OC_TOKEN" \
    -d '{"sql": "SELECT COUNT(*) AS late FROM demo.flights WHERE delay > ?", "params": [60]}'
  curl -sS "$OC_URL/v1/tenants/$OC_TENANT/usage" -H "Authorization: Bearer $OC_TOKEN"
  curl -sS "$OC_URL/v1/admin/replication" -H "Authorization: Bearer $OC_ADMIN_TOKEN"
  curl -sS "$OC_URL/v1/admin/archive" -H "Authorization: Bearer $OC_ADMIN_TOKEN"
  %[2]s list --archive "$OC_ARCHIVE_URL"

Lose the writer, and look who writes then; or have it hand over. The endpoint stays the same:

  kill -9 %[3]d
  %[4]s status --dir %[5]s
  %[4]s promote --planned --dir %[5]s

"make drill" kills the writer of another instance under load, and counts what clients see.

Press Ctrl-C to stop. The data stays; run the demo again to go on with it.
`, quote(d.env()), d.program(ocPITR), s.Writer.PID, d.program(ocControl), quote(d.dir))
	return nil
}

// env is the file that a shell reads to go on.
func (d *demo) env() string { return d.file("env") }

// writeEnv writes what a shell needs to go on. It names the token files and
// holds no token, so that it may be shown to anyone.
func (d *demo) writeEnv() error {
	// OC_ARCHIVE would be an option of every server that is started in that shell.
	return layout.WriteFile(d.env(), fmt.Appendf(nil, `# Written by the demo. Load it into a shell with: . %s
# OC_URL follows the writer; OC_FOLLOWER_URL is the node that followed when this was written.
export OC_URL=%s
export OC_FOLLOWER_URL=%s
export OC_TENANT=%s
export OC_TOKEN="$(cat %s)"
export OC_ADMIN_TOKEN="$(cat %s)"
export OC_ARCHIVE_URL=%s
`, quote(d.env()), quote(d.at.Endpoint), quote(d.at.Followers[0]), quote(d.at.Tenant), quote(d.at.TokenFile), quote(d.at.AdminTokenFile), quote(d.at.Archive)))
}

// quote makes a text one word of a POSIX shell, as short as may be.
func quote(s string) string {
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// plain are characters that mean themselves to a shell.
const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-:"
