package docs

import (
	"encoding/json"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"originchain/infra/config"
	"originchain/scripts/oc-pitr/pitr"
	"originchain/scripts/oc-subscribers/subscribers"
)

const (
	deployPage  = "docs/DEPLOY.md"
	runbookPage = "docs/RUNBOOK.md"
)

// blocks are the fenced blocks of a page in a language.
func blocks(t *testing.T, p, language string) (out []string) {
	t.Helper()
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(page(t, p), -1) {
		out = append(out, m[1])
	}
	if len(out) == 0 {
		t.Fatalf("%s has no block of %s", p, language)
	}
	return out
}

// TestDeployCommandsAreSound: what is to be typed has no fault that shellcheck finds. A
// block may use what an earlier one has set.
func TestDeployCommandsAreSound(t *testing.T) {
	for _, text := range slices.Concat(blocks(t, deployPage, "sh"), blocks(t, runbookPage, "sh")) {
		cmd := exec.CommandContext(t.Context(), "shellcheck", "--shell=bash", "--exclude=SC2154,SC2034", "-")
		cmd.Stdin = strings.NewReader(text)
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v (shellcheck must be on PATH)\n%s\n%s", err, text, said)
		}
	}
}

// TestDeployConfigurationIsOne: the example is a configuration without a fault.
func TestDeployConfigurationIsOne(t *testing.T) {
	for _, text := range blocks(t, deployPage, "json") {
		c, err := config.Parse(deployPage, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range append(c.Tenants[0].Nodes(), c.Tenants[0].Record, c.MailFrom) {
			if name != c.MailFrom && !strings.Contains(page(t, deployPage), name) {
				t.Errorf("%s is nowhere else on the page", name)
			}
		}
	}
}

// TestDeployNamesWhatIsSynthesized: stacks, secrets, topics and machines of the example are
// those of the templates, where the tenant is called pro.
func TestDeployNamesWhatIsSynthesized(t *testing.T) {
	text := page(t, deployPage)
	golden := func(p string) bool {
		files, err := filepath.Glob(path.Join(repository, "infra/stack/testdata/*", p+".json"))
		return err == nil && len(files) > 0
	}
	stacks := regexp.MustCompile(`\bOriginChain-((?:acme-)?[A-Z][a-z]+)\b`).FindAllStringSubmatch(text, -1)
	if len(stacks) < 10 {
		t.Fatalf("%d stacks named", len(stacks))
	}
	for _, m := range stacks {
		if !golden(strings.Replace(m[1], "acme-", "pro-", 1)) {
			t.Errorf("there is no stack %s", m[0])
		}
	}
	files, err := filepath.Glob(path.Join(repository, "infra/stack/testdata/tiers/*.json"))
	if err != nil {
		t.Fatal(err)
	}
	// Each stack that is there is named, or it would stay at the tear-down.
	for _, f := range files {
		name := strings.TrimSuffix(path.Base(f), ".json")
		if _, part, ok := strings.Cut(name, "-"); ok {
			name = "acme-" + part
		}
		if !strings.Contains(text, "OriginChain-"+name) || !regexp.MustCompile(`for stack in [^\n]*\b`+name+`\b`).MatchString(text) {
			t.Errorf("the page does not deploy, or does not tear down, the stack %s", name)
		}
	}
	var templates strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		templates.Write(b)
	}
	for _, name := range []string{"originchain/acme/admin-token", "originchain/acme/certificates/", "originchain-acme-page", "originchain-page", "oc-acme-failover",
		"oc-acme-operator-eu-central-1", "oc-subscribers-eu-central-1", "acme-oc-controlplane-instance-silent", "originchain-leases", "originchain-registry", "StatusPage", "VPCIsolatedSubnet1", "/var/lib/originchain"} {
		if !strings.Contains(text, name) || !strings.Contains(templates.String(), strings.ReplaceAll(name, "acme", "pro")) {
			t.Errorf("%s is not both on the page and, for the tenant pro, in the templates", name)
		}
	}
}

// TestDeployOptionsExist: programs have the options that the page gives them.
func TestDeployOptionsExist(t *testing.T) {
	option := regexp.MustCompile(`\s--([a-z][a-z-]*)`)
	source := map[string]string{"promote-follower.sh": page(t, "scripts/promote/command.go"), "oc-server": page(t, "writer/process/cert.go")}
	seen := 0
	for _, text := range slices.Concat(blocks(t, deployPage, "sh"), blocks(t, runbookPage, "sh")) {
		for line := range strings.SplitSeq(strings.ReplaceAll(text, "\\\n", " "), "\n") {
			words := strings.Fields(line)
			if len(words) == 0 {
				continue
			}
			for _, m := range option.FindAllStringSubmatch(line, -1) {
				program := path.Base(words[0])
				code, ours := source[program]
				switch {
				case program == "oc-pitr" && !slices.Contains(pitr.Options(), m[1]), ours && !strings.Contains(code, `"`+m[1]+`"`),
					program == "oc-subscribers" && !slices.Contains(subscribers.Options(words[1]), m[1]):
					t.Errorf("%s has no --%s: %s", program, m[1], line)
				case ours, program == "oc-pitr", program == "oc-subscribers":
					seen++
				}
			}
		}
	}
	if seen < 25 {
		t.Errorf("%d options seen", seen)
	}
}

// TestComplianceIsHeldByWhatIsThere: each row names code and a test that exist.
func TestComplianceIsHeldByWhatIsThere(t *testing.T) {
	file, name := regexp.MustCompile("`((?:infra|shared|writer|test|lambdas)/[\\w./-]+)`"), regexp.MustCompile("`(Test\\w+)`")
	rows := 0
	for line := range strings.SplitSeq(page(t, "docs/COMPLIANCE.md"), "\n") {
		cells := strings.Split(line, " | ")
		if len(cells) != 4 || strings.Contains(line, "held by") {
			continue
		}
		rows++
		if !file.MatchString(cells[2]) || !strings.Contains(cells[3], "_test.go`") {
			t.Errorf("no code, or no test, in %s", line)
		}
		for _, m := range file.FindAllStringSubmatch(line, -1) {
			if !exists(m[1]) {
				t.Errorf("%s is not there: %s", m[1], line)
			}
		}
		for _, m := range name.FindAllStringSubmatch(cells[3], -1) {
			if in := file.FindStringSubmatch(cells[3]); in == nil || !strings.Contains(page(t, in[1]), "func "+m[1]+"(") {
				t.Errorf("%s is not where the page says: %s", m[1], line)
			}
		}
	}
	if rows < 15 {
		t.Errorf("%d rows", rows)
	}
	for _, m := range regexp.MustCompile(`(?m)^\{"ts".*\}$`).FindAllString(page(t, "docs/COMPLIANCE.md"), -1) {
		if !json.Valid([]byte(m)) {
			t.Errorf("no line of an audit log: %s", m)
		}
	}
}
