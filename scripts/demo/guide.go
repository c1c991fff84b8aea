package main

import (
	"fmt"
	"path/filepath"
	"strings"
)

// guide says where everything is and how to go on.
func (d *demo) guide() error {
	if err := d.writeEnv(); err != nil {
		return err
	}
	d.sayf(`
The servers are up.

  endpoint      %s
  follower      %s  (reads; a write there names the writer)
  tenant        %s
  tenant token  %s
  admin token   %s
  server logs   %s, %s
  archive       %s
`, d.pair.writer.URL(), d.pair.follower.URL(), d.tenant, d.token, d.adminToken, d.serverLog, d.followerLog, d.archive)
	if d.once {
		return nil
	}
	d.sayf(`
Go on in another terminal:

  . %s
  curl -sS "$OC_URL/v1/tenants/$OC_TENANT/rows/demo.airports/HNL" -H "Authorization: Bearer $OC_TOKEN"
  curl -sS "$OC_URL/v1/tenants/$OC_TENANT/sql" -H "Authorization: Bearer $OC_TOKEN" \
    -d '{"sql": "SELECT COUNT(*) AS late FROM demo.flights WHERE delay > ?", "params": [60]}'
  curl -sS "$OC_URL/v1/tenants/$OC_TENANT/usage" -H "Authorization: Bearer $OC_TOKEN"
  curl -sS "$OC_URL/v1/admin/replication" -H "Authorization: Bearer $OC_ADMIN_TOKEN"
  curl -sS "$OC_URL/v1/admin/archive" -H "Authorization: Bearer $OC_ADMIN_TOKEN"
  bin/oc-pitr list --archive "$OC_ARCHIVE_URL"

Press Ctrl-C to stop. The data stays; run the demo again to go on with it.
`, d.env)
	return nil
}

// writeEnv writes what a shell needs to go on. It names the token files and
// holds no token, so that it may be shown to anyone.
func (d *demo) writeEnv() error {
	token, err := filepath.Abs(d.token)
	if err != nil {
		return err
	}
	admin, err := filepath.Abs(d.adminToken)
	if err != nil {
		return err
	}
	archive, err := d.archiveURL()
	if err != nil {
		return err
	}
	// OC_ARCHIVE would be an option of every server that is started in that shell.
	return writeFile(d.env, fmt.Sprintf(`# Written by the demo. Load it into a shell with: . %s
export OC_URL=%s
export OC_FOLLOWER_URL=%s
export OC_TENANT=%s
export OC_TOKEN="$(cat %s)"
export OC_ADMIN_TOKEN="$(cat %s)"
export OC_ARCHIVE_URL=%s
`, d.env, quote(d.pair.writer.URL()), quote(d.pair.follower.URL()), quote(d.tenant), quote(token), quote(admin), quote(archive)))
}

// quote makes a text one word of a POSIX shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
