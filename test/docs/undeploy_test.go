package docs

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// cloud answers as an account does with a stack in a state that has a table, a secret, a log
// group and a bucket, and says what it is told to change.
const cloud = `
aws() {
  case "$1 $2 $*" in
  *" describe-stacks "*) echo "$STATUS" ;;
  *" list-stack-resources "*)
    case "$*" in
    *DynamoDB::Table*CREATE_COMPLETE*DELETE_FAILED*) echo originchain-leases ;;
    *SecretsManager::Secret*) echo arn:a; echo arn:b ;;
    *Logs::LogGroup*) echo /originchain/acme ;;
    esac ;;
  *" scan "*) echo "$ITEMS" ;;
  *" describe-"* | *" wait "*) ;;
  *) echo "$2 ${*: -1}" ;;
  esac
}
`

// TestAFirstDeploymentIsTakenBack: what the page has typed deletes what a stack that never was
// has made, in an order in which that goes, and nothing that has an item in it or was deployed.
func TestAFirstDeploymentIsTakenBack(t *testing.T) {
	found := slices.DeleteFunc(blocks(t, deployPage, "sh"), func(b string) bool { return !strings.Contains(b, "ROLLBACK_FAILED") })
	if len(found) != 1 {
		t.Fatalf("%d blocks", len(found))
	}
	stack := []string{"update-termination-protection OriginChain-acme-Failover", "delete-stack OriginChain-acme-Failover"}
	made := []string{"update-table --no-deletion-protection-enabled", "delete-table originchain-leases", "delete-secret arn:a", "delete-secret arn:b", "delete-log-group /originchain/acme"}
	for _, c := range []struct {
		status, items string
		want          []string
	}{
		{"ROLLBACK_COMPLETE", "0", stack},
		{"ROLLBACK_FAILED", "0", slices.Concat(made, stack)},
		{"ROLLBACK_FAILED", "3", nil},
		{"ROLLBACK_FAILED", "", nil}, // it cannot be read
		{"CREATE_COMPLETE", "0", nil},
		{"UPDATE_ROLLBACK_FAILED", "0", nil},
		{"", "", nil},
	} {
		shell := exec.CommandContext(t.Context(), "bash")
		shell.Env = append(shell.Environ(), "STATUS="+c.status, "ITEMS="+c.items)
		shell.Stdin = strings.NewReader(cloud + found[0])
		said, err := shell.CombinedOutput()
		got := strings.FieldsFunc(string(said), func(r rune) bool { return r == '\n' })
		if !slices.Equal(got, c.want) {
			t.Errorf("%s, %s items: %v, %q, want %q", c.status, c.items, err, got, c.want)
		}
	}
}
