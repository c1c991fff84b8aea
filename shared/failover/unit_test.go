package failover

import (
	"errors"
	"strings"
	"testing"
)

func derived(t *testing.T, own, writers string) (string, []string, error) {
	t.Helper()
	w := unitRead{name: "writer.service", text: []byte("[Service]\n" + writers + "\n")}
	if writers == "" {
		w = unitRead{err: errors.New("its machine is gone")}
	}
	text, told, err := deriveUnit(unitRead{name: "own.service", text: []byte("[Service]\n" + own + "\n")}, w, takesValue)
	if err == nil {
		again, _, err := deriveUnit(unitRead{name: "own.service", text: text}, w, takesValue)
		if err != nil || string(again) != string(text) {
			t.Errorf("a second time it is another one: %v\n%s\n%s", err, text, again)
		}
	}
	return strings.TrimSuffix(strings.TrimPrefix(string(text), "[Service]\n"), "\n"), told, err
}

func TestDeriveUnit(t *testing.T) {
	const own = "ExecStart=/bin/oc-server --node-id b --data-dir /b --listen :2 --mode follower --leader-addr=a:1"
	for _, c := range []struct{ name, own, writers, want string }{
		{"what makes a follower goes, what is the node's own stays", own, "ExecStart=/bin/oc-server --node-id a --data-dir /a --listen :1", "ExecStart=/bin/oc-server --node-id b --data-dir /b --listen :2"},
		{"sync flags and the LLM are the instance's", own + " --sync-replicas 0", "ExecStart=/bin/oc-server --sync-replicas 1 --sync-strict --sync-timeout-ms=500 --llm-model 'a \"b\"'",
			`ExecStart=/bin/oc-server --node-id b --data-dir /b --listen :2 --sync-replicas=1 --sync-strict --sync-timeout-ms=500 "--llm-model=a \"b\""`},
		{"TLS paths are the node's own", own + " --tls-cert /b.crt", "ExecStart=/bin/oc-server --tls-cert /a.crt --tls-key /a.key", "ExecStart=/bin/oc-server --node-id b --data-dir /b --listen :2 --tls-cert /b.crt --tls-key=/a.key"},
		{"without the writer's unit", own + " --sync-replicas 2", "", "ExecStart=/bin/oc-server --node-id b --data-dir /b --listen :2 --sync-replicas 2"},
		{"a follower by its environment", "Environment=OC_MODE=follower\nExecStart=/bin/oc-server --data-dir /b", "ExecStart=/bin/oc-server", "Environment=OC_MODE=follower\nExecStart=/bin/oc-server --data-dir /b --mode=writer"},
		{"a value that is doubled", own, "ExecStart=/bin/oc-server --llm-url http://x/%%20$$", "ExecStart=/bin/oc-server --node-id b --data-dir /b --listen :2 --llm-url=http://x/%%20$$"},
	} {
		got, told, err := derived(t, c.own, c.writers)
		if err != nil || got != c.want || (len(told) > 0) != (c.writers == "") {
			t.Errorf("%s: %v %v\n%s\nwant\n%s", c.name, err, told, got, c.want)
		}
	}
	for _, c := range []struct{ name, own, writers, want string }{
		{"a variable of the other unit", own, "ExecStart=/bin/oc-server --sync-replicas ${N}", "write it out"},
		{"a flag that nobody knows", own + " --what 1", "ExecStart=/bin/oc-server", "--what"},
		{"no command", "Restart=always", "ExecStart=/bin/oc-server", "0 commands"},
	} {
		if _, _, err := derived(t, c.own, c.writers); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
