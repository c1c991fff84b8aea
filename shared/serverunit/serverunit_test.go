package serverunit_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"originchain/shared/serverunit"
	"originchain/shared/unitfile"
)

func TestText(t *testing.T) {
	u := serverunit.Unit{Node: "acme-a", Instance: "01J", Directory: "/var/lib/a%b", Binary: "/opt/o c/$x/oc-server", Flags: []string{"--mode", "writer", "--tail-ship", "--log-level", "de bug", "--x", `a"b\c$d%e`}}
	got, err := u.Text()
	if err != nil {
		t.Fatal(err)
	}
	want := `[Unit]
Description=OriginChain acme-a of instance 01J
After=network-online.target

[Service]
Type=exec
WorkingDirectory=/var/lib/a%%b
ExecStart="/opt/o c/$x/oc-server" \
    --mode writer \
    --tail-ship \
    --log-level "de bug" \
    --x "a\"b\\c$$d%%e"
Restart=always
RestartSec=1
TimeoutStopSec=30

[Install]
WantedBy=multi-user.target
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	u.Dependencies, u.Settings = []string{"RequiresMountsFor=/a", "Requires=b.service"}, []string{"User=c", "LimitNOFILE=7"}
	if got, err = u.Text(); err != nil {
		t.Fatal(err)
	}
	f, err := unitfile.Parse("oc-http.service", got)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range [][3]string{{"Unit", "RequiresMountsFor", "/a"}, {"Unit", "Requires", "b.service"}, {"Service", "User", "c"}, {"Service", "LimitNOFILE", "7"}, {"Install", "WantedBy", "multi-user.target"}} {
		if v := f.Value(c[0], c[1]); v != c[2] {
			t.Errorf("%s of %s is %q:\n%s", c[1], c[0], v, got)
		}
	}
}

// TestNothingSlipsIn: no text can begin a line of its own.
func TestNothingSlipsIn(t *testing.T) {
	for name, u := range map[string]serverunit.Unit{
		"binary": {Binary: "/a\nUser=root"}, "flag": {Binary: "/a", Flags: []string{"--x", "y\nUser=root"}}, "node": {Binary: "/a", Node: "a\r"},
		"directory": {Binary: "/a", Directory: "/\n"}, "dependency": {Binary: "/a", Dependencies: []string{"A=\n"}}, "setting": {Binary: "/a", Settings: []string{"A=\x7f"}},
	} {
		if text, err := u.Text(); err == nil {
			t.Errorf("%s: taken:\n%s", name, text)
		}
	}
}
