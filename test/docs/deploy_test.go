package docs

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"originchain/infra/config"
	"originchain/infra/cost"
	"originchain/scripts/oc-pitr/pitr"
	"originchain/scripts/oc-subscribers/subscribers"
	"originchain/shared/archive"
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
		"oc-acme-operator-eu-central-1", "oc-subscribers-eu-central-1", "acme-oc-controlplane-instance-silent", "originchain-leases", "originchain-registry", "StatusPage", "originchain-acme-a", "originchain-acme-b", "VPCIsolatedSubnet1", "/var/lib/originchain"} {
		if !strings.Contains(text, name) || !strings.Contains(templates.String(), strings.ReplaceAll(name, "acme", "pro")) {
			t.Errorf("%s is not both on the page and, for the tenant pro, in the templates", name)
		}
	}
}

// TestDeployOptionsExist: programs have the options that the page gives them.
func TestDeployOptionsExist(t *testing.T) {
	option := regexp.MustCompile(`\s--([a-z][a-z-]*)`)
	cdk := map[string][]string{"bootstrap": {"cloudformation-execution-policies", "termination-protection"}, "deploy": {"all"}, "destroy": {"all", "exclusively"}, "diff": nil}
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
					program == "cdk" && !slices.Contains(cdk[words[1]], m[1]), program == "oc-subscribers" && !slices.Contains(subscribers.Options(words[1]), m[1]):
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

// TestTearDownNamesWhatStays: of each type that stays when its stack goes there is a row with
// how it goes, and of each log group that there is a prefix.
func TestTearDownNamesWhatStays(t *testing.T) {
	_, text, ok := strings.Cut(page(t, deployPage), "\n## 13. Tear-down\n")
	var rows []string
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, "| ") {
			rows = append(rows, line)
		}
	}
	if !ok || len(rows) < 10 {
		t.Fatalf("%d rows of what stays", len(rows))
	}
	how := map[string]string{
		"AWS::EC2::Volume": "aws ec2 delete-volume", "AWS::S3::Bucket": "delete-bucket-policy", "AWS::DynamoDB::Table": "aws dynamodb delete-table", "AWS::SecretsManager::Secret": "aws secretsmanager delete-secret",
		"AWS::Logs::LogGroup": "aws logs delete-log-group", "AWS::Route53::RecordSet": "change-resource-record-sets", "AWS::KMS::Key": "aws kms schedule-key-deletion",
	}
	prefix := regexp.MustCompile("`(/[a-z/]+/)…`")
	kept := 0
	for stack, resources := range templates(t) {
		for id, r := range resources {
			if !strings.HasPrefix(r.DeletionPolicy, "Retain") {
				continue
			}
			kept++
			i := slices.IndexFunc(rows, func(row string) bool { return how[r.Type] != "" && strings.Contains(row, how[r.Type]) })
			if i < 0 {
				t.Errorf("%s of stack %s, of type %s, stays, and no row says how it goes", id, stack, r.Type)
				continue
			}
			name, named := r.Properties["LogGroupName"].(string)
			if named && !slices.ContainsFunc(prefix.FindAllStringSubmatch(rows[i], -1), func(m []string) bool { return strings.HasPrefix(name, m[1]) }) {
				t.Errorf("the log group %s of stack %s is not among %s", name, stack, rows[i])
			}
			if _, tagged := r.Properties["Tags"]; !tagged && r.Type != "AWS::Route53::RecordSet" {
				t.Errorf("%s of stack %s has no tags, by which the page finds it", id, stack)
			}
		}
	}
	if kept < 20 {
		t.Errorf("%d resources that stay", kept)
	}
	for _, m := range regexp.MustCompile(`(?m)^(\w+)=\$\(aws ec2 run-instances `).FindAllStringSubmatch(page(t, deployPage), -1) {
		if !strings.Contains(page(t, deployPage), `aws ec2 terminate-instances --region "$region" --instance-ids "$`+m[1]+`"`) {
			t.Errorf("the machine $%s is started, and stays in the VPC", m[1])
		}
	}
}

// kept is a resource of a golden template.
type kept struct {
	Type, DeletionPolicy string
	Properties           map[string]any
}

// templates are the golden ones, by their file.
func templates(t *testing.T) map[string]map[string]kept {
	t.Helper()
	files, err := filepath.Glob(path.Join(repository, "infra/stack/testdata/*/*.json"))
	if err != nil || len(files) < 20 {
		t.Fatalf("%d golden templates: %v", len(files), err)
	}
	all := make(map[string]map[string]kept)
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var one struct{ Resources map[string]kept }
		if err := json.Unmarshal(text, &one); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		all[strings.TrimPrefix(f, repository)] = one.Resources
	}
	return all
}

// TestDeployCountsQuotas: how many roles and documents a tenant has is what the page says.
func TestDeployCountsQuotas(t *testing.T) {
	count := make(map[string]int)
	for stack, resources := range templates(t) {
		for _, r := range resources {
			if strings.HasPrefix(path.Base(stack), "pro-") {
				count[r.Type]++
			}
		}
	}
	text := strings.Join(strings.Fields(page(t, deployPage)), " ")
	disks, checks := make(map[string]int), make(map[string]int)
	for stack, resources := range templates(t) {
		tier, _, _ := strings.Cut(path.Base(stack), "-")
		for _, r := range resources {
			switch {
			case path.Base(path.Dir(stack)) != "tiers":
			case r.Type == "AWS::EC2::Volume" && r.Properties["VolumeType"] == "gp3":
				disks[tier] += int(r.Properties["Size"].(float64))
			case r.Type == "AWS::Route53::HealthCheck":
				checks[tier]++
			}
		}
	}
	for _, tier := range []string{"pro", "scale", "dedicated"} {
		if want := fmt.Sprintf("%d,%03d GiB (`%s`)", disks[tier]/1000, disks[tier]%1000, tier); !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if want := fmt.Sprintf("a tenant has %d (`pro`) or %d (`scale`, `dedicated`)", checks["pro"], checks["scale"]); checks["scale"] != checks["dedicated"] || !strings.Contains(text, want) {
		t.Errorf("the page does not say %q", want)
	}
	for kind, says := range map[string]string{
		"AWS::IAM::Role": "1,000 roles in an account, all regions together, and a tenant has %d;", "AWS::SSM::Document": "500 documents in a region, and a tenant has %d:",
	} {
		if want := fmt.Sprintf(says, count[kind]); count[kind] == 0 || !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}

// TestCostsShipAsNodesDo: the example of tail_ship is of what nodes do.
func TestCostsShipAsNodesDo(t *testing.T) {
	if cost.TailWindow != archive.DefaultTailWindow {
		t.Errorf("costs are of a part every %v, and nodes ship one every %v", cost.TailWindow, archive.DefaultTailWindow)
	}
}
