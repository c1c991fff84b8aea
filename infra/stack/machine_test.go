package stack_test

import (
	"archive/zip"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// shim stands for what only a machine of EC2 has. It notes how it was called, and behaves
// as the files in $WORLD say.
const shim = `#!/bin/bash
all=$*
echo "${0##*/} $all" >>"$WORLD/calls"
case "${0##*/} $all" in
"curl "*latest/api/token*) echo token ;;
"curl "*meta-data/instance-id) [[ ! -e $WORLD/no-metadata ]] && echo i-1 ;;
"aws ec2 attach-volume "*)
  volume=${all#*--volume-id }
  volume=${volume%% *}
  if [[ -s $WORLD/refused ]]; then
    sed -i 1d "$WORLD/refused"
    exit 254
  fi
  cp "$WORLD/content-$volume" "$DEVICES/nvme-Amazon_Elastic_Block_Store_${volume/-/}" ;;
"aws ec2 attach-network-interface "*)
  [[ ! -e $WORLD/attached ]] || exit 254
  touch "$WORLD/attached" ;;
"aws s3 cp "*) cp "$WORLD/programs.zip" "${@: -1}" ;;
"aws "*" secretsmanager "*)
  secret=${all#*--secret-id }
  cat "$WORLD/secret-$(basename "${secret%% *}")" ;;
"journalctl "*)
  after=${all#*--after-cursor=}
  after=${after%% *}
  # What is behind the cursor; all of it without one.
  [[ $all == *--after-cursor=* ]] && cat "$WORLD/journal" | sed "1,/\"$after\"/d" || cat "$WORLD/journal"
  [[ ! -e $WORLD/journal-fails ]] ;;
"aws logs create-log-stream "*)
  [[ ! -e $WORLD/no-group ]] || { echo "ResourceNotFoundException" >&2; exit 254; }
  [[ -e $WORLD/stream ]] && { echo "ResourceAlreadyExistsException" >&2; exit 254; }
  touch "$WORLD/stream" ;;
"aws logs put-log-events "*)
  [[ ! -e $WORLD/logs-away ]] || exit 254
  [[ -e $WORLD/stream ]] || { echo "ResourceNotFoundException" >&2; exit 254; }
  cat "${all#*file://}" >>"$WORLD/sent"
  echo >>"$WORLD/sent" ;;
"ip "*)
  if [[ -e $WORLD/attached && -s $WORLD/late ]]; then
    sed -i 1d "$WORLD/late"
    exit 0
  fi
  [[ -e $WORLD/attached ]] && echo "3: ens6 inet $ADDRESS/20 brd 10.0.15.255 scope global ens6" ;;
"blkid "*)
  [[ ! -e $WORLD/unreadable ]] || exit 4
  [[ $(head -c 4 "${@: -1}" | tr -d '\0') == XFSB ]] || exit 2
  head -n 1 "${@: -1}" | cut -c 5- ;;
"mkfs.xfs "*)
  label=${all#*-L }
  printf 'XFSB%s\n' "${label%% *}" >"${@: -1}"
  [[ ! -e $WORLD/mkfs-dies ]] || exit 3 ;;
"xfs_admin -L "*) [[ -e $WORLD/no-label ]] || printf 'XFSB%s\n' "$2" >"$3" ;;
"mount "*)
  [[ ! -e $WORLD/mount-fails ]] || exit 32
  touch "$WORLD/mounted-$(basename "$1")" ;;
"xfs_growfs "*)
  [[ ! -e $WORLD/no-growth ]] || exit 1
  [[ -e $WORLD/mounted-$(basename "$2") ]] && touch "$WORLD/grown-$(basename "$2")" ;;
"mountpoint "*) [[ -e $WORLD/mounted-$(basename "$2") ]] ;;
"id "*) [[ -e $WORLD/user ]] ;;
"getent group originchain") [[ -e $WORLD/group ]] || exit 2 ;;
"groupadd "*)
  # The number is another group's, or the name is taken.
  [[ ! -e $WORLD/number-taken ]] || exit 4
  [[ ! -e $WORLD/group ]] || exit 9
  touch "$WORLD/group" ;;
"useradd "*)
  [[ -e $WORLD/group ]] || exit 6
  touch "$WORLD/user" ;;
"install -d "*) mkdir -p "${@: -1}" ;;
"install "*) /usr/bin/install "$@" ;;
esac
`

// machine is a place to run a script of a machine in.
type machine struct {
	dir string
	env []string
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{dir: t.TempDir()}
	for _, d := range []string{"shims", "world", "devices", "programs"} {
		if err := os.Mkdir(filepath.Join(m.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"curl", "aws", "ip", "blkid", "mkfs.xfs", "xfs_admin", "xfs_growfs", "mount", "mountpoint", "id", "getent", "groupadd", "useradd", "chown", "systemctl", "install", "journalctl"} {
		if err := os.WriteFile(filepath.Join(m.dir, "shims", name), []byte(shim), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.env = []string{"PATH=" + m.dir + "/shims:/usr/bin:/bin", "WORLD=" + m.dir + "/world", "DEVICES=" + m.dir + "/devices", "FSTAB=" + m.dir + "/world/fstab", "POLL_SECONDS=0", "TAKE_OVER_SECONDS=20", "PROGRAMS_SECONDS=20", "METADATA_SECONDS=20",
		"TMPDIR=" + m.dir, "REGION=eu-central-1", "BINARIES=s3://assets/x.zip", "STATE_VOLUME=vol-1", "LOG_VOLUME=vol-2", "INTERFACE=eni-1", "ADDRESS=10.0.0.9", "SERVER_USER=originchain", "SERVER_UID=7400",
		"PROGRAMS=" + m.dir + "/programs", "DATA_DIR=" + m.dir + "/data", "LOG_DIR=" + m.dir + "/data/log", "SECRETS_DIR=" + m.dir + "/secrets", "SETTINGS=" + m.dir + "/settings",
		"ADMIN_SECRET=originchain/acme/admin-token", "CERTIFICATES_SECRET=originchain/acme/certificates/acme-a",
		"LOG_GROUP=/originchain/acme", "LOGS_STATE=" + m.dir + "/logs", "STREAM=i-1"}
	m.put(t, "fstab", "UUID=1 / xfs defaults 0 0\n")
	m.put(t, "content-vol-1", strings.Repeat("\x00", 1<<20))
	m.put(t, "content-vol-2", strings.Repeat("\x00", 1<<20))
	m.zip(t)
	return m
}

// zip makes the asset with the programs, as the CDK packs them: without modes.
func (m *machine) zip(t *testing.T) {
	t.Helper()
	f, err := os.Create(filepath.Join(m.dir, "world", "programs.zip"))
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(f)
	w, err := z.Create("oc-server")
	if err == nil {
		_, err = w.Write([]byte("#!/bin/sh\n"))
	}
	if err == nil {
		err = z.Close()
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (m *machine) put(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(m.dir, "world", name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// read is a file of the machine, "" where there is none.
func (m *machine) read(name string) string {
	text, err := os.ReadFile(filepath.Join(m.dir, name))
	if err != nil {
		return ""
	}
	return string(text)
}

// run runs a script; ok is false if it fails. calls are those that it made since.
func (m *machine) run(t *testing.T, script string, env ...string) (ok bool, calls []string, output string) {
	t.Helper()
	m.put(t, "calls", "")
	cmd := exec.CommandContext(t.Context(), "bash", script)
	cmd.Env = append(slices.Clone(m.env), env...)
	out, err := cmd.CombinedOutput()
	for line := range strings.Lines(strings.ReplaceAll(m.read("world/calls"), m.dir, "")) {
		calls = append(calls, strings.TrimSpace(line))
	}
	return err == nil, calls, string(out)
}

// of are the calls that begin with one of the words.
func of(calls []string, words ...string) (out []string) {
	for _, c := range calls {
		if slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(c, w) }) {
			out = append(out, c)
		}
	}
	return out
}

const bootScript = "machine/boot.sh"

func TestBootTakesOverWhatIsTheNodes(t *testing.T) {
	m := newMachine(t)
	ok, calls, out := m.run(t, bootScript)
	if !ok {
		t.Fatalf("%s\n%s", out, strings.Join(calls, "\n"))
	}
	want := []string{
		"aws ec2 attach-volume --region eu-central-1 --volume-id vol-1 --instance-id i-1 --device /dev/sdf",
		"aws ec2 attach-volume --region eu-central-1 --volume-id vol-2 --instance-id i-1 --device /dev/sdg",
		"aws ec2 attach-network-interface --region eu-central-1 --network-interface-id eni-1 --instance-id i-1 --device-index 1",
		"mkfs.xfs -q -L oc-making /devices/nvme-Amazon_Elastic_Block_Store_vol1", "xfs_admin -L oc-state /devices/nvme-Amazon_Elastic_Block_Store_vol1",
		"mkfs.xfs -q -L oc-making /devices/nvme-Amazon_Elastic_Block_Store_vol2", "xfs_admin -L oc-log /devices/nvme-Amazon_Elastic_Block_Store_vol2",
		"mount /data", "xfs_growfs -d /data", "mount /data/log", "xfs_growfs -d /data/log",
		"chown originchain:originchain /data /data/log",
		"systemctl daemon-reload", "systemctl enable --now --no-block oc-secrets.timer oc-http.service oc-node.service",
	}
	if diff := cmp.Diff(want, of(calls, "aws ec2", "mkfs", "xfs_admin", "xfs_growfs", "mount /", "chown", "systemctl")); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	fstab := strings.ReplaceAll(m.read("world/fstab"), m.dir, "")
	if diff := cmp.Diff(`UUID=1 / xfs defaults 0 0
/devices/nvme-Amazon_Elastic_Block_Store_vol1 /data xfs noatime,nodev,nosuid,noexec,nofail,x-systemd.device-timeout=600s 0 2
/devices/nvme-Amazon_Elastic_Block_Store_vol2 /data/log xfs noatime,nodev,nosuid,noexec,nofail,x-systemd.device-timeout=600s 0 2
`, fstab); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if info, err := os.Stat(m.dir + "/programs/oc-server"); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the server cannot be run: %v, %v", info, err)
	}
	// Again, as a machine whose start was cut short.
	ok, calls, out = m.run(t, bootScript)
	if again := of(calls, "aws ec2", "aws s3", "mkfs", "xfs_admin", "mount /", "useradd"); !ok || len(again) > 0 {
		t.Errorf("done again: %q\n%s", again, out)
	}
	if strings.ReplaceAll(m.read("world/fstab"), m.dir, "") != fstab {
		t.Errorf("%s", m.read("world/fstab"))
	}
}

// TestBootKeepsWhatVolumesHold: a new machine of a node formats nothing.
func TestBootKeepsWhatVolumesHold(t *testing.T) {
	m := newMachine(t)
	m.put(t, "content-vol-1", "XFSBoc-state\ndata")
	m.put(t, "content-vol-2", "XFSBoc-log\ndata")
	m.put(t, "refused", strings.Repeat("an older machine still has it\n", 3))
	ok, calls, out := m.run(t, bootScript)
	if !ok || len(of(calls, "mkfs")) > 0 || len(of(calls, "aws ec2 attach-volume")) != 5 || len(of(calls, "systemctl enable")) != 1 {
		t.Errorf("%v\n%s\n%s", ok, out, strings.Join(calls, "\n"))
	}
	for i, want := range []string{"XFSBoc-state\ndata", "XFSBoc-log\ndata"} {
		if got := m.read("devices/nvme-Amazon_Elastic_Block_Store_vol" + string(rune('1'+i))); got != want {
			t.Errorf("the volume has %.20q, and had %q", got, want)
		}
	}
}

// TestBootUsesWhatAVolumeHasMore: at each start, mounted or not before. Where it cannot, the
// node serves with what it had, and says so.
func TestBootUsesWhatAVolumeHasMore(t *testing.T) {
	m := newMachine(t)
	for _, what := range []string{"a first start", "a start with what is mounted"} {
		ok, calls, out := m.run(t, bootScript)
		if grown := of(calls, "xfs_growfs"); !ok || len(grown) != 2 || strings.Contains(out, "did not grow") {
			t.Errorf("%s: %v %q\n%s", what, ok, grown, out)
		}
		for _, dir := range []string{"data", "log"} {
			if err := os.Remove(m.dir + "/world/grown-" + dir); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	m.put(t, "no-growth", "")
	ok, calls, out := m.run(t, bootScript)
	if !ok || len(of(calls, "systemctl enable")) != 1 || !strings.Contains(out, "the file system of volume vol-2 did not grow (1)") {
		t.Errorf("%v %q\n%s", ok, calls, out)
	}
}

// TestBootLeavesNothingOfItsAttempts: what is unpacked is on the disk of the programs, and
// goes, whether it came to its end, failed, or was killed.
func TestBootLeavesNothingOfItsAttempts(t *testing.T) {
	m := newMachine(t)
	left := func(what string, want ...string) {
		t.Helper()
		var names []string
		entries, err := os.ReadDir(m.dir + "/programs")
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if diff := cmp.Diff(want, names); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got)\n%s", what, err, diff)
		}
		if more, err := filepath.Glob(m.dir + "/tmp.*"); err != nil || len(more) > 0 {
			t.Errorf("%s: in memory there is %q", what, more)
		}
	}
	killed := func() {
		t.Helper()
		if err := os.MkdirAll(m.dir+"/programs/.new/programs", 0o700); err != nil {
			t.Fatal(err)
		}
	}
	good := m.read("world/programs.zip")
	killed()
	m.put(t, "programs.zip", "damaged")
	if ok, _, out := m.run(t, bootScript, "PROGRAMS_SECONDS=0"); ok {
		t.Error(out)
	}
	left("an attempt that failed")
	killed()
	m.put(t, "programs.zip", good)
	if ok, _, out := m.run(t, bootScript); !ok {
		t.Error(out)
	}
	left("one that did not", ".installed", "oc-server")
	killed()
	if ok, _, out := m.run(t, bootScript); !ok {
		t.Error(out)
	}
	left("a start that had them", ".installed", "oc-server")
}

// TestBootMakesTheServersUserOnce: with its group, unless an attempt before has made that.
func TestBootMakesTheServersUserOnce(t *testing.T) {
	const group, user = "groupadd --system --gid 7400 originchain", "useradd --system --uid 7400 --gid originchain --no-create-home --shell /sbin/nologin originchain"
	for name, c := range map[string]struct {
		files, want []string
	}{
		"neither":            {nil, []string{group, user}},
		"the group":          {[]string{"group"}, []string{user}},
		"the group and user": {[]string{"group", "user"}, nil},
	} {
		m := newMachine(t)
		for _, f := range c.files {
			m.put(t, f, "")
		}
		ok, calls, out := m.run(t, bootScript)
		if made := of(calls, "groupadd", "useradd"); !ok || !slices.Equal(made, c.want) {
			t.Errorf("%s: %v %q\n%s", name, ok, made, out)
		}
	}
}

// TestBootStopsBeforeItHarms: whatever is not as it should be, nothing is formatted, and
// no server started.
func TestBootStopsBeforeItHarms(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		env   []string
		says  string
		// formats: it was empty, and is made a file system first; mounts: that is tried.
		formats, mounts bool
	}{
		"something without a file system": {map[string]string{"content-vol-1": strings.Repeat("\x00", 1<<20-1) + "x"}, nil, "volume vol-1 has no file system and is not empty", false, false},
		"volumes mixed up":                {map[string]string{"content-vol-1": "XFSBoc-log\n", "content-vol-2": "XFSBoc-state\n"}, nil, "volume vol-1 has the label 'oc-log', not oc-state", false, false},
		"a volume that cannot be read":    {map[string]string{"unreadable": ""}, nil, "volume vol-1 cannot be read (blkid: 4)", false, false},
		"a volume that stays away":        {map[string]string{"refused": strings.Repeat("no\n", 9)}, []string{"TAKE_OVER_SECONDS=0"}, "the state volume vol-1 did not come about within 0 s", false, false},
		"a group's number that is taken":  {map[string]string{"number-taken": ""}, nil, "groupadd --system --gid \"$SERVER_UID\" \"$SERVER_USER\": failed (4)", false, false},
		"no metadata":                     {map[string]string{"no-metadata": ""}, []string{"METADATA_SECONDS=0"}, "the machine's metadata did not come about within 0 s", false, false},
		"a label that is not taken":       {map[string]string{"no-label": ""}, nil, "volume vol-1 did not take the label oc-state", true, false},
		"a file system that fails":        {map[string]string{"mount-fails": ""}, nil, "mount \"$2\": failed (32)", true, true},
		"programs that are none":          {map[string]string{"content-vol-1": "XFSBoc-state\n", "content-vol-2": "XFSBoc-log\n", "programs.zip": "x"}, []string{"PROGRAMS_SECONDS=0"}, "the programs of s3://assets/x.zip did not come about", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			for f, text := range c.files {
				m.put(t, f, text)
			}
			ok, calls, out := m.run(t, bootScript, c.env...)
			if ok || !strings.Contains(out, c.says) || !strings.Contains(out, "the machine serves nothing") {
				t.Errorf("%v: %s", ok, out)
			}
			if harm := of(calls, "mkfs", "systemctl"); len(harm) > 0 && !c.formats || len(of(calls, "systemctl", "mount /")) > 0 && !c.mounts {
				t.Errorf("it went on to %q", harm)
			}
		})
	}
}

// TestBootEndsWhatItBegan: a start that was cut short within the making of a file system
// is done again, and the interface may have its address later than it is attached.
func TestBootEndsWhatItBegan(t *testing.T) {
	m := newMachine(t)
	m.put(t, "mkfs-dies", "")
	ok, calls, out := m.run(t, bootScript)
	if ok || len(of(calls, "mkfs")) != 1 || len(of(calls, "mount /", "xfs_admin")) > 0 || !strings.Contains(out, "mkfs.xfs -q -L \"$UNFINISHED\" \"$dev\": failed (3)") {
		t.Errorf("%v %q\n%s", ok, calls, out)
	}
	if err := os.Remove(m.dir + "/world/mkfs-dies"); err != nil {
		t.Fatal(err)
	}
	ok, calls, out = m.run(t, bootScript)
	if made := of(calls, "mkfs"); !ok || len(made) != 2 || made[0] != "mkfs.xfs -q -f -L oc-making /devices/nvme-Amazon_Elastic_Block_Store_vol1" {
		t.Errorf("%v %q\n%s", ok, calls, out)
	}
	late := newMachine(t)
	late.put(t, "late", "not yet\nnot yet\n")
	if ok, calls, out := late.run(t, bootScript); !ok || len(of(calls, "systemctl enable")) != 1 {
		t.Errorf("%q\n%s", calls, out)
	}
}

const certificates = `{"ca.crt": "CA\n", "node.crt": "NODE", "node.key": "KEY\n\n", "server.crt": "A\nB\n", "server.key": "C", "note": 1}`

func TestSecretsAreTheServersAlone(t *testing.T) {
	m := newMachine(t)
	m.put(t, "secret-admin-token", "0123456789012345678901234567890123456789\n")
	m.put(t, "secret-acme-a", certificates)
	// A run that was killed has left what it had.
	if err := os.MkdirAll(m.dir+"/secrets/.new-killed", 0o700); err != nil {
		t.Fatal(err)
	}
	ok, calls, out := m.run(t, "machine/oc-secrets.sh")
	if !ok {
		t.Fatal(out)
	}
	if asked := of(calls, "aws"); len(asked) != 2 || !strings.Contains(asked[0], "--cli-connect-timeout 3 --cli-read-timeout 8") {
		t.Errorf("%q", asked)
	}
	for name, want := range map[string]string{"admin.token": "0123456789012345678901234567890123456789\n", "ca.crt": "CA\n", "node.crt": "NODE\n", "node.key": "KEY\n", "server.crt": "A\nB\n", "server.key": "C\n"} {
		info, err := os.Stat(m.dir + "/secrets/" + name)
		if got := m.read("secrets/" + name); got != want || err != nil || info.Mode().Perm() != 0o400 {
			t.Errorf("%s is %q, %v, %v", name, got, info, err)
		}
	}
	if got := of(calls, "install -d"); len(got) != 1 || got[0] != "install -d -m 0750 -o root -g originchain /secrets" {
		t.Errorf("%q", got)
	}
	if left, err := os.ReadDir(m.dir + "/secrets"); err != nil || len(left) != 6 {
		t.Errorf("%v, %v", left, err)
	}
	// What is asked for again and is not whole changes nothing.
	m.put(t, "secret-admin-token", "9999999999999999999999999999999999999999\n")
	for in, says := range map[string]string{
		`{"ca.crt": "x"}`: "lacks node.crt, node.key, server.crt, server.key", "[]": "is not a JSON object", "x": "is not a JSON object",
		strings.Replace(certificates, `"C"`, `" "`, 1): "lacks server.key", strings.Replace(certificates, `"C"`, `7`, 1): "lacks server.key"} {
		m.put(t, "secret-acme-a", in)
		ok, _, out := m.run(t, "machine/oc-secrets.sh")
		if ok || !strings.Contains(out, says) || strings.Contains(out, "KEY") || m.read("secrets/node.crt") != "NODE\n" || !strings.HasPrefix(m.read("secrets/admin.token"), "0123") {
			t.Errorf("%s: %v, %s", in, ok, out)
		}
	}
	if err := os.Remove(m.dir + "/world/secret-acme-a"); err != nil {
		t.Fatal(err)
	}
	if ok, _, out := m.run(t, "machine/oc-secrets.sh"); ok || !strings.Contains(out, "put them into the secret originchain/acme/certificates/acme-a") {
		t.Errorf("%v, %s", ok, out)
	}
}

// journal are n entries, with cursors of their own.
func journal(n int) string {
	var b strings.Builder
	for i := range n {
		message := fmt.Sprintf(`"m%d"`, i)
		if i == 1 {
			message = "[255, 104, 105]" // no text
		}
		fmt.Fprintf(&b, `{"__CURSOR": "c%d", "__REALTIME_TIMESTAMP": "%d123", "MESSAGE": %s}`+"\n", i, 1700000000000+i, message)
	}
	return b.String()
}

// sent are the messages that were sent, each request in brackets.
func (m *machine) sent(t *testing.T) (out string) {
	t.Helper()
	for line := range strings.Lines(m.read("world/sent")) {
		var batch struct {
			LogStreamName string
			LogEvents     []struct {
				Timestamp int64
				Message   string
			}
		}
		if err := json.Unmarshal([]byte(line), &batch); err != nil || batch.LogStreamName != "i-1" {
			t.Fatalf("%v: %s", err, line)
		}
		var messages []string
		for _, e := range batch.LogEvents {
			messages = append(messages, e.Message)
			if e.Timestamp < 1700000000000 || e.Timestamp > 1700000000100 {
				t.Errorf("%+v", e)
			}
		}
		out += fmt.Sprint(messages)
	}
	m.put(t, "sent", "")
	return out
}

// TestJournalIsSentOnce: in order, from where the last run ended, and never past what was
// taken.
func TestJournalIsSentOnce(t *testing.T) {
	m := newMachine(t)
	const script = "machine/oc-logs.sh"
	step := func(wantOK bool, want string, env ...string) {
		t.Helper()
		ok, _, out := m.run(t, script, env...)
		if got := m.sent(t); ok != wantOK || got != want {
			t.Errorf("ok %v, sent %q, want %q\n%s", ok, got, want, out)
		}
	}
	m.put(t, "journal", "")
	step(true, "")
	m.put(t, "journal", journal(5))
	m.put(t, "logs-away", "")
	step(false, "")
	if err := os.Remove(m.dir + "/world/logs-away"); err != nil {
		t.Fatal(err)
	}
	// The stream is there already; two requests of two events are all that a run may.
	step(true, "[m0 \ufffdhi][m2 m3]", "BATCH_EVENTS=2", "BATCHES=2")
	step(true, "[m4]", "BATCH_EVENTS=2", "BATCHES=2")
	step(true, "")
	m.put(t, "journal", journal(8))
	step(true, "[m5 m6 m7]")
	// A stream that somebody deleted is made again; where its group is gone, all waits.
	gone := func(name string) {
		t.Helper()
		if err := os.Remove(m.dir + "/world/" + name); err != nil {
			t.Fatal(err)
		}
	}
	gone("stream")
	m.put(t, "journal", journal(9))
	m.put(t, "no-group", "")
	step(false, "")
	gone("no-group")
	step(true, "[m8]")
	step(true, "")
	m.put(t, "journal-fails", "")
	step(false, "")
}

// TestRequestsOfLogsAreTaken: one that is not in the order of time, or spans a day, would
// be refused for good, and nothing behind it would ever be sent.
func TestRequestsOfLogsAreTaken(t *testing.T) {
	m := newMachine(t)
	const hour = 3600 * 1000
	var b strings.Builder
	for i, e := range []struct {
		at      int
		message string
	}{
		{0, `"a"`}, {5, `"b"`}, {4, `"set back"`}, {4 + 23*hour - 1, `"a day"`}, {4 + 23*hour, `"after"`}, {4 + 23*hour, `["x", "y"]`}, {4 + 23*hour, `[[255, 104], "z"]`}, {4 + 23*hour, `null`}, {4 + 23*hour, `[]`},
	} {
		fmt.Fprintf(&b, `{"__CURSOR": "c%d", "__REALTIME_TIMESTAMP": "%d000", "MESSAGE": %s}`+"\n", i, 1700000000000+e.at, e.message)
	}
	m.put(t, "journal", b.String())
	ok, calls, out := m.run(t, "machine/oc-logs.sh")
	var got []string
	for line := range strings.Lines(m.read("world/sent")) {
		var batch struct{ LogEvents []struct{ Message string } }
		if err := json.Unmarshal([]byte(line), &batch); err != nil {
			t.Fatal(err)
		}
		text := ""
		for _, e := range batch.LogEvents {
			text += e.Message + "|"
		}
		got = append(got, text)
	}
	if diff := cmp.Diff([]string{"a|b|", "set back|a day|", "after|x\ny|\ufffdh\nz| | |"}, got); diff != "" || !ok {
		t.Errorf("(-want +got)\n%s%s", diff, out)
	}
	if journal := of(calls, "journalctl"); len(journal) != 1 || !strings.Contains(journal[0], " --all ") || !strings.Contains(journal[0], "--unit=oc-boot.service") {
		t.Errorf("%q", journal)
	}
}
