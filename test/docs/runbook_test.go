package docs

import (
	"encoding/json"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"originchain/shared/alarms"
	"originchain/shared/aws/ddblease"
)

// TestSectionsOfALostWriterHoldOnAWS: whoever is woken there finds commands, that read the
// record by its true key and name what the templates make.
func TestSectionsOfALostWriterHoldOnAWS(t *testing.T) {
	files, err := filepath.Glob(path.Join(repository, "infra/stack/testdata/tiers/*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d templates: %v", len(files), err)
	}
	var templates strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		templates.Write(b)
	}
	made := func(kind, name string) {
		t.Helper()
		if !strings.Contains(templates.String(), `"`+kind+`": "`+strings.ReplaceAll(name, "acme", "pro")+`"`) {
			t.Errorf("no template has the %s %s", kind, name)
		}
	}
	text := page(t, runbookPage)
	made("AlarmName", "acme-"+alarms.InstanceSilent)
	for _, m := range regexp.MustCompile("`<tenant>(-[a-z-]+)`").FindAllStringSubmatch(text, -1) {
		made("AlarmName", "acme"+m[1])
	}
	for section, programs := range map[string][]string{
		alarms.InstanceSilent:   {"aws dynamodb get-item", "aws stepfunctions get-execution-history", "aws stepfunctions list-executions", "scripts/promote-follower.sh --provider aws"},
		"oc_lease_remaining_ms": {"aws dynamodb get-item", "scripts/promote-follower.sh --provider aws"},
	} {
		_, body, _ := strings.Cut(text, "\n## `"+section+"`\n")
		body, _, _ = strings.Cut(body, "\n## ")
		_, block, _ := strings.Cut(body, "```sh\n")
		block, _, _ = strings.Cut(block, "```")
		var got []string
		for line := range strings.Lines(block) {
			words := strings.Fields(line)
			got = append(got, strings.Join(words[:3], " "))
			switch {
			case slices.Contains(words, "get-item"):
				table, key := option(line, "table-name"), map[string]map[string]string{}
				if err := json.Unmarshal([]byte(option(line, "key")), &key); err != nil {
					t.Errorf("%v: %s", err, line)
				}
				if diff := cmp.Diff(map[string]map[string]string{ddblease.KeyAttribute: {"S": "acme"}}, key); diff != "" {
					t.Errorf("the key of an item (-the store's +the page's)\n%s", diff)
				}
				made("TableName", table)
				made("AttributeName", ddblease.KeyAttribute)
			case slices.Contains(words, "list-executions"):
				arn := option(line, "state-machine-arn")
				made("StateMachineName", arn[strings.LastIndex(arn, ":")+1:])
			case strings.HasPrefix(words[0], "scripts/") && !slices.Contains(words, "--dry-run"):
				t.Errorf("somebody who only looks changes who writes: %s", line)
			}
		}
		slices.Sort(got)
		if diff := cmp.Diff(programs, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", section, diff)
		}
	}
}

// option is the value of an option of a line of a shell.
func option(line, name string) string {
	m := regexp.MustCompile(`--` + name + ` (?:'([^']*)'|(\S+))`).FindStringSubmatch(line)
	if m == nil {
		return ""
	}
	return m[1] + m[2]
}
