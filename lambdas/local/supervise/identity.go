package supervise

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// invocationVariable is set for every process of a unit, as systemd does. It is new for
// each start and inherited, and so tells what a process left behind from all else.
const invocationVariable = "INVOCATION_ID"

const bootFile = "/proc/sys/kernel/random/boot_id"

// identity tells one process from every other of this boot. Before the fork it has only
// its invocation.
type identity struct {
	Invocation string `json:"invocation"`
	PID        int    `json:"pid,omitempty"`
	// Start is when it began, in ticks since boot: field 22 of /proc/<pid>/stat.
	Start uint64 `json:"start,omitempty"`
	Exe   string `json:"exe,omitempty"`
}

func newInvocation() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	return hex.EncodeToString(b[:])
}

func bootID() (string, error) {
	b, err := os.ReadFile(bootFile)
	if err != nil {
		return "", fmt.Errorf("tell this boot of the machine from others: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// identify reads what the process of a pid is now.
func identify(pid int) (identity, error) {
	id := identity{PID: pid}
	var err error
	if id.Start, err = startTime(pid); err != nil {
		return id, err
	}
	exe, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "exe"))
	id.Exe = strings.TrimSuffix(exe, " (deleted)") // a binary that was built anew
	return id, err
}

// startTime is field 22 of /proc/<pid>/stat.
func startTime(pid int) (uint64, error) {
	fields, err := stat(pid)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// frozen says whether a process is stopped by a signal, or by a debugger.
func frozen(pid int) bool {
	fields, err := stat(pid)
	return err == nil && (fields[0] == "T" || fields[0] == "t")
}

// stat are the fields of /proc/<pid>/stat from the third on: the name in the second may
// hold anything.
func stat(pid int) ([]string, error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 20 {
		return nil, fmt.Errorf("/proc/%d/stat has %d fields behind the name", pid, len(fields))
	}
	return fields, nil
}

// same says whether the process of id.PID is the one that was recorded. One that is
// ending has no program any more, and is known by when it began.
func (id identity) same() (bool, error) {
	if id.PID <= 0 {
		return false, nil
	}
	start, err := startTime(id.PID)
	if gone(err) {
		return false, nil
	}
	if err != nil || start != id.Start {
		return false, err
	}
	now, err := identify(id.PID)
	if gone(err) {
		return now.Start == id.Start, nil
	}
	return now.Start == id.Start && now.Exe == id.Exe, err
}

// gone says of an error of /proc that there is no such process, or none that runs.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || isNoProcess(err)
}
