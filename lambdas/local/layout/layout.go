// Package layout is the directory of an instance that runs on one machine: where its
// files are, which addresses it has, its unit files, and the documents that others read
// of it. It starts nothing.
package layout

import (
	"net/url"
	"path/filepath"
)

// Dir is the directory of one instance, an absolute path.
type Dir string

// Open makes a Dir of any path.
func Open(path string) (Dir, error) {
	abs, err := filepath.Abs(path)
	return Dir(abs), err
}

// The files and directories. Secrets are files of mode 0600 in directories of mode 0700.
func (d Dir) path(elem ...string) string {
	return filepath.Join(append([]string{string(d)}, elem...)...)
}

// Instance is where its names and addresses are kept, which never change.
func (d Dir) Instance() string { return d.path("instance.json") }

// Endpoints is what clients and tools read.
func (d Dir) Endpoints() string { return d.path("endpoints.json") }

// Socket is where the control plane of the directory listens, for commands.
func (d Dir) Socket() string { return d.path("control.sock") }

// Lock is held by the control plane.
func (d Dir) Lock() string { return d.path("control.lock") }

// Log is what the control plane says.
func (d Dir) Log() string { return d.path("logs", "oc-control.log") }

// NodeLog is what a node says.
func (d Dir) NodeLog(machine string) string { return d.path("logs", machine+".log") }

// Logs is where they are.
func (d Dir) Logs() string { return d.path("logs") }

// UnitDir is the directory of a node's unit file.
func (d Dir) UnitDir(machine string) string { return d.path("units", machine) }

// Data is the data directory of a node.
func (d Dir) Data(machine string) string { return d.path("data", machine) }

// Unit is the unit file of a node.
func (d Dir) Unit(machine string) string { return d.path("units", machine, UnitName) }

// UnitName is what the unit of a node is called, here and on EC2.
const UnitName = "oc-http.service"

// Lease is the store of the lease record, Registry that of nodes and incidents.
func (d Dir) Lease() string { return d.path("lease") }

// Registry is the store of nodes, failovers and incidents.
func (d Dir) Registry() string { return d.path("registry") }

// ZoneName is the file of what the DNS server answers.
const ZoneName = "zone.json"

// AdminToken is the file of the admin token, which all nodes have.
func (d Dir) AdminToken() string { return d.path("admin.token") }

// TenantToken is the token of the tenant that was made with the instance.
func (d Dir) TenantToken() string { return d.path("tenant.token") }

// LeaseToken is what nodes show to the lease store.
func (d Dir) LeaseToken() string { return d.path("lease.token") }

// Archive is the folder of the archive, ArchiveURL as programs are told of it.
func (d Dir) Archive() string { return d.path("archive") }

// ArchiveURL is the archive as programs are told of it.
func (d Dir) ArchiveURL() string { return (&url.URL{Scheme: "file", Path: d.Archive()}).String() }

// Directories are all that are to be there.
func (d Dir) Directories() []string {
	return []string{string(d), d.path("data"), d.path("logs"), d.path("units"), d.Lease(), d.Registry(), d.Archive()}
}
