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
    *DynamoDB::Table*CREATE_COMPLETE*DELETE_FAILED*) echo originchain-leases; [ "$TABLE" != unlisted ] ;;
    *SecretsManager::Secret*) echo arn:a; echo arn:b ;;
    *Logs::LogGroup*) echo /originchain/acme ;;
    esac ;;
  *" scan "*) echo "$ITEMS" ;;
  *" describe-table "*)
    case "$TABLE" in
    gone) echo ResourceNotFoundException; return 254 ;;
    denied) echo AccessDeniedException; return 254 ;;
    esac ;;
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
	not := []string{"nothing is deleted: there are items in, or it is not known of: originchain-leases"}
	for _, c := range []struct {
		status, items, table string
		want                 []string
	}{
		{"ROLLBACK_COMPLETE", "0", "", stack},
		{"ROLLBACK_FAILED", "0", "", slices.Concat(made, stack)},
		{"ROLLBACK_FAILED", "", "gone", slices.Concat(made[2:], stack)}, // a second try
		{"ROLLBACK_FAILED", "3", "", not},
		{"ROLLBACK_FAILED", "3", "denied", not},
		{"ROLLBACK_FAILED", "", "", not}, // it cannot be read
		{"ROLLBACK_FAILED", "0", "unlisted", []string{"nothing is deleted: there are items in, or it is not known of: what cannot be listed"}},
		{"CREATE_COMPLETE", "0", "", nil},
		{"UPDATE_ROLLBACK_FAILED", "0", "", nil},
		{"", "", "", nil},
	} {
		shell := exec.CommandContext(t.Context(), "bash")
		shell.Env = append(shell.Environ(), "STATUS="+c.status, "ITEMS="+c.items, "TABLE="+c.table)
		shell.Stdin = strings.NewReader(cloud + found[0])
		said, err := shell.CombinedOutput()
		got := strings.FieldsFunc(string(said), func(r rune) bool { return r == '\n' })
		if !slices.Equal(got, c.want) {
			t.Errorf("%s, %s items, table %q: %v, %q, want %q", c.status, c.items, c.table, err, got, c.want)
		}
	}
}
