package stack_test

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// metadataAddress is where a machine of EC2 finds the metadata service, and here whatever
// else is not on the machine.
const metadataAddress = "169.254.169.254"

// awsCommand stands for the AWS CLI: what it is told goes to a cloud, which answers.
const awsCommand = `#!/bin/bash
printf '%s\n' "$@" | curl -sS --fail-with-body --data-binary @- http://` + metadataAddress + `/aws || exit 254
`

// journalCommand stands for journald: it has what the manager noted of the boot.
const journalCommand = `#!/bin/bash
[[ -e /run/systemd/private/oc-boot.service.log ]] || exit 0
n=0 behind=0
[[ "$*" != *--after-cursor=c* ]] || { behind=${*#*--after-cursor=c} && behind=${behind%% *}; }
while read -r line; do
  n=$((n + 1))
  ((n <= behind)) || printf '{"__CURSOR": "c%d", "__REALTIME_TIMESTAMP": "1700000000000000", "MESSAGE": "%s"}\n' "$n" "${line//\"/}"
done </run/systemd/private/oc-boot.service.log
`

// program stands for a program of a node: it tells how it was started, where all is there
// that the server needs, and ends at once where it is not.
const program = `#!/bin/bash
set -eu
for d in /var/lib/originchain /var/lib/originchain/log; do mountpoint -q "$d"; done
[[ ${0##*/} != oc-server ]] || for f in admin.token ca.crt node.crt node.key server.crt server.key; do [[ -s /run/originchain/$f ]]; done
printf '%s\n' "$0" "$@" "AWS_REGION=$AWS_REGION" | curl -sS --fail-with-body --data-binary @- http://` + metadataAddress + `/ran
exec sleep infinity
`

// cloud is what a machine has around it. It attaches real devices and a real address.
type cloud struct {
	t                     *testing.T
	root, machine, region string
	binaries, group       string
	iface                 string
	volumes, secrets      map[string]string
	attachInterface       func() error
	ran                   chan []string

	mu     sync.Mutex
	calls  []string
	stream bool
	logged []string
}

// serve answers a machine in its network, which begins anew with each of its starts.
func (c *cloud) serve(pid int) *httptest.Server {
	c.t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /latest/api/token", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds") == "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		_, _ = io.WriteString(w, "a-token")
	})
	mux.HandleFunc("GET /latest/meta-data/instance-id", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Aws-Ec2-Metadata-Token") != "a-token" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, c.machine)
	})
	words := func(do func([]string) (string, error)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			text, err := io.ReadAll(r.Body)
			var out string
			if err == nil {
				out, err = do(strings.Split(strings.TrimSuffix(string(text), "\n"), "\n"))
			}
			if err != nil {
				w.WriteHeader(http.StatusBadRequest)
				out = err.Error()
			}
			_, _ = io.WriteString(w, out)
		}
	}
	mux.HandleFunc("POST /aws", words(c.aws))
	mux.HandleFunc("POST /ran", words(func(argv []string) (string, error) {
		c.ran <- argv
		return "", nil
	}))
	s := &httptest.Server{Listener: c.listen(pid), Config: &http.Server{Handler: mux}}
	s.Start()
	return s
}

// listen opens the port in the network of a process: a socket stays where it was made.
func (c *cloud) listen(pid int) (l net.Listener) {
	c.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and it is not unlocked: the thread ends with this function
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err == nil {
			err = errors.Join(unix.Setns(int(f.Fd()), unix.CLONE_NEWNET), f.Close())
		}
		if err == nil {
			l, err = net.Listen("tcp", metadataAddress+":80")
		}
		done <- err
	}()
	if err := <-done; err != nil {
		c.t.Fatal(err)
	}
	return l
}

// aws carries out one call, and knows no other than those of a machine.
func (c *cloud) aws(args []string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	words, options := []string{}, map[string]string{}
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "--only-show-errors":
		case strings.HasPrefix(args[i], "--") && i+1 < len(args):
			options[args[i]] = args[i+1]
			i++
		default:
			words = append(words, args[i])
		}
	}
	what := strings.Join(words[:min(2, len(words))], " ")
	c.calls = append(c.calls, what)
	if options["--region"] != c.region {
		return "", fmt.Errorf("%s in %q", what, options["--region"])
	}
	switch what {
	case "ec2 attach-volume":
		v := options["--volume-id"]
		if c.volumes[v] == "" || options["--instance-id"] != c.machine || !slices.Contains([]string{"/dev/sdf", "/dev/sdg"}, options["--device"]) {
			return "", fmt.Errorf("InvalidParameter: %q", options)
		}
		return "{}", os.Symlink(c.volumes[v], filepath.Join(c.root, "dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_"+strings.ReplaceAll(v, "-", "")))
	case "ec2 attach-network-interface":
		if options["--network-interface-id"] != c.iface || options["--instance-id"] != c.machine || options["--device-index"] != "1" {
			return "", fmt.Errorf("InvalidParameter: %q", options)
		}
		return "{}", c.attachInterface()
	case "s3 cp":
		if len(words) != 4 || words[2] != c.binaries {
			return "", fmt.Errorf("404: %q", words)
		}
		return "", c.programs(words[3])
	case "secretsmanager get-secret-value":
		text, ok := c.secrets[options["--secret-id"]]
		if !ok || options["--query"] != "SecretString" || options["--output"] != "text" {
			return "", fmt.Errorf("ResourceNotFoundException: %q", options)
		}
		return text + "\n", nil
	case "logs create-log-stream", "logs put-log-events":
		return "{}", c.logs(words[1], options)
	}
	return "", fmt.Errorf("no machine calls %q", args)
}

// logs takes what a machine sends of its journal.
func (c *cloud) logs(what string, options map[string]string) error {
	if options["--log-group-name"] != c.group {
		return fmt.Errorf("ResourceNotFoundException: %q", options)
	}
	if what == "create-log-stream" {
		c.stream = options["--log-stream-name"] == c.machine
		return nil
	}
	var batch struct {
		LogStreamName string
		LogEvents     []struct{ Message string }
	}
	text, err := os.ReadFile(filepath.Join(c.root, strings.TrimPrefix(options["--cli-input-json"], "file://")))
	if err == nil {
		err = json.Unmarshal(text, &batch)
	}
	if err != nil || !c.stream || batch.LogStreamName != c.machine {
		return fmt.Errorf("ResourceNotFoundException: %q, %w", batch.LogStreamName, err)
	}
	for _, e := range batch.LogEvents {
		c.logged = append(c.logged, e.Message)
	}
	return nil
}

// programs puts the asset of the machine where it asks for it: without modes, as the CDK
// packs it.
func (c *cloud) programs(at string) error {
	var text bytes.Buffer
	z := zip.NewWriter(&text)
	var faults []error
	for _, name := range []string{"oc-node", "oc-server"} {
		w, err := z.Create(name)
		if err == nil {
			_, err = io.WriteString(w, program)
		}
		faults = append(faults, err)
	}
	return errors.Join(append(faults, z.Close(), os.WriteFile(filepath.Join(c.root, at), text.Bytes(), 0o644))...)
}

// take are the calls since it was asked last.
func (c *cloud) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.calls
	c.calls = nil
	return out
}

// said is what the machine's journal has sent.
func (c *cloud) said() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.logged, "\n")
}

// disk is a block device of this machine with a content, which goes with this process at
// the latest.
func disk(t *testing.T, content string) string {
	t.Helper()
	backing, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = backing.Close() }() // the device keeps it
	// XFS takes no less than 300 MiB, of which hardly any are written.
	if err := errors.Join(backing.Truncate(320<<20), writeAt(backing, content)); err != nil {
		t.Fatal(err)
	}
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Fatalf("a volume of a test is a loop device, and this machine can make none: %v", err)
	}
	defer func() { _ = control.Close() }() // nothing is written to it
	for {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			t.Fatalf("a volume of a test is a loop device, and this machine has none free: %v", err)
		}
		path := fmt.Sprintf("/dev/loop%d", n)
		device, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		err = unix.IoctlLoopConfigure(int(device.Fd()), &unix.LoopConfig{Fd: uint32(backing.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}})
		if err == nil {
			t.Cleanup(func() { _ = device.Close() }) // it is gone then
			return path
		}
		if err := errors.Join(device.Close(), err); !errors.Is(err, unix.EBUSY) {
			t.Fatal(err)
		}
	}
}

func writeAt(f *os.File, content string) error {
	_, err := f.WriteAt([]byte(content), 0)
	return err
}
