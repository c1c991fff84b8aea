package docs

import (
	"cmp"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"originchain/test/awsfake/model"
)

// awsCommand is a command of the AWS CLI, its words after "aws".
type awsCommand struct {
	where string
	words []string
	// whole: it is to be run as it stands, and not a part that a text names.
	whole bool
}

// awsCommands are those that scripts of infra run, and that the pages, and the messages of
// what infra makes, have people run.
func awsCommands(t *testing.T) (out []awsCommand) {
	t.Helper()
	add := func(where, text string, whole bool) {
		text = strings.ReplaceAll(text, "\\\n", " ")
		for _, m := range regexp.MustCompile(`(?m)(?:^|[\s(|"{])aws ([a-z0-9]+(?:-[a-z0-9]+)* [a-z].*)$`).FindAllStringSubmatch(text, -1) {
			out = append(out, awsCommand{where, shellWords(m[1]), whole})
		}
	}
	for _, p := range []string{deployPage, runbookPage} {
		for _, b := range blocks(t, p, "sh") {
			add(p, b, true)
		}
		// Prose breaks lines within what is quoted.
		for _, m := range regexp.MustCompile("`(aws [a-z0-9-]+\\s[^`]*)`").FindAllStringSubmatch(page(t, p), -1) {
			add(p, strings.Join(strings.Fields(m[1]), " "), false)
		}
	}
	tree := os.DirFS(repository)
	err := fs.WalkDir(tree, "infra", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || d.IsDir() && slices.Contains([]string{"node_modules", "testdata"}, d.Name()):
			if err == nil {
				err = fs.SkipDir
			}
			return err
		case path.Ext(p) == ".sh":
			text, err := fs.ReadFile(tree, p)
			add(p, regexp.MustCompile(`(?m)^\s*#.*$`).ReplaceAllString(string(text), ""), true)
			return err
		case path.Ext(p) == ".go" && !strings.HasSuffix(p, "_test.go"):
			text, err := fs.ReadFile(tree, p)
			for _, m := range regexp.MustCompile("(?m)^aws .*$|`aws [a-z0-9-]+ [a-z][^`\n]*`").FindAllString(string(text), -1) {
				add(p, strings.Trim(m, "`"), m[0] != '`')
			}
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// shellWords are the words of a shell's command, up to its end.
func shellWords(text string) (words []string) {
	var word strings.Builder
	quote, begun := rune(0), false
	end := func() {
		if begun {
			words = append(words, word.String())
		}
		word.Reset()
		begun = false
	}
	for _, c := range text {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '\'' || c == '"':
			quote, begun = c, true
		case strings.ContainsRune(";|&)>", c):
			if c == '>' && (word.String() == "2" || word.String() == "1") {
				begun = false
			}
			end()
			return words
		case c == ' ' || c == '\t':
			end()
		default:
			word.WriteRune(c)
			begun = true
		}
	}
	end()
	return words
}

// global are options of each command.
var global = []string{"region", "output", "query", "cli-input-json", "no-cli-pager"}

// special are options that the CLI has besides what the models have.
var special = map[string][]string{
	"s3 cp":             {"only-show-errors"},
	"ec2 run-instances": {"count", "associate-public-ip-address"},
	// It came in 2023, and Debian's model is older.
	"dynamodb update-table": {"no-deletion-protection-enabled"},
}

// renamed are members whose option has another name than theirs, which is one of all
// commands.
var renamed = map[string]map[string]string{
	"sns subscribe":                   {"notification-endpoint": "Endpoint"},
	"stepfunctions send-task-success": {"task-output": "output"},
}

// modelNames are the services that the CLI has another name for than the models.
var modelNames = map[string]string{"s3api": "s3"}

// dashed is a name as the CLI has it.
func dashed(name string) string {
	name = regexp.MustCompile(`(.)([A-Z][a-z]+)`).ReplaceAllString(name, "$1-$2")
	return strings.ToLower(regexp.MustCompile(`([a-z0-9])([A-Z])`).ReplaceAllString(name, "$1-$2"))
}

// TestCommandsOfAWSAreItsOwn: each has an operation of the service's published model, its
// options are members of what that is given, what is required is there, and a value is one
// of those there are.
func TestCommandsOfAWSAreItsOwn(t *testing.T) {
	services, seen := make(map[string]*model.Service), make(map[string]int)
	for _, c := range awsCommands(t) {
		service := c.words[0]
		if c.words[0] == "s3" {
			checkOptions(t, c, nil, nil, c.words[2:])
			seen[c.where]++
			continue
		}
		if services[service] == nil {
			m, err := model.Load(cmp.Or(modelNames[service], service))
			if err != nil {
				t.Errorf("%s: aws %s: %v", c.where, strings.Join(c.words, " "), err)
				continue
			}
			services[service] = m
		}
		m := services[service]
		op, rest := operationOf(m, c.words[1:])
		if op == nil {
			t.Errorf("%s: %s has no such command: aws %s", c.where, service, strings.Join(c.words, " "))
			continue
		}
		shape := &model.Shape{}
		if op.Input != nil {
			shape = m.Shapes[op.Input.Shape]
		}
		checkOptions(t, c, m, shape, rest)
		seen[c.where]++
	}
	for where, least := range map[string]int{deployPage: 40, runbookPage: 5, "infra/stack/machine/boot.sh": 3, "infra/stack/machine/verify.sh": 3, "infra/stack/machine/oc-logs.sh": 2, "infra/statemachine/statemachine.go": 2, "infra/config/parse.go": 1} {
		if seen[where] < least {
			t.Errorf("%d commands of aws seen in %s, which has %d", seen[where], where, least)
		}
	}
}

// operationOf is what a command calls, and the words behind its name.
func operationOf(m *model.Service, words []string) (*model.Operation, []string) {
	if words[0] == "wait" && len(words) > 1 {
		for name, w := range m.Waiters {
			if dashed(name) == words[1] {
				return m.Operations[w.Operation], words[2:]
			}
		}
		return nil, nil
	}
	for name, op := range m.Operations {
		if dashed(name) == words[0] {
			return op, words[1:]
		}
	}
	return nil, nil
}

func checkOptions(t *testing.T, c awsCommand, m *model.Service, shape *model.Shape, words []string) {
	t.Helper()
	more, known := special[strings.Join(c.words[:2], " ")]
	if m == nil && !known {
		t.Errorf("%s: nobody says what options aws %s has", c.where, strings.Join(c.words, " "))
		return
	}
	members, given := make(map[string]string), make(map[string]bool)
	if shape != nil {
		for name, r := range shape.Members {
			members[dashed(name)] = name
			if m.Shapes[r.Shape].Type == "boolean" {
				members["no-"+dashed(name)] = name
			}
		}
	}
	for option, name := range renamed[strings.Join(c.words[:2], " ")] {
		delete(members, dashed(name))
		members[option] = name
	}
	for i, w := range words {
		option, is := strings.CutPrefix(w, "--")
		if !is {
			continue
		}
		option, value, together := strings.Cut(option, "=")
		member, ours := members[option]
		given[member] = true
		switch {
		case ours:
			if !together && i+1 < len(words) {
				value = words[i+1]
			}
			if enum := m.Shapes[shape.Members[member].Shape].Enum; len(enum) > 0 && !slices.Contains(enum, value) && regexp.MustCompile(`^[\w.-]+$`).MatchString(value) {
				t.Errorf("%s: --%s is never %q, but one of %v: aws %s", c.where, option, value, enum, strings.Join(c.words, " "))
			}
		case !slices.Contains(global, option) && !slices.Contains(more, option):
			t.Errorf("%s: it has no --%s: aws %s", c.where, option, strings.Join(c.words, " "))
		}
	}
	if shape == nil || !c.whole || slices.Contains(words, "--cli-input-json") {
		return
	}
	for _, name := range shape.Required {
		if short := c.words[0] == "ec2" && c.words[1] == "run-instances"; !given[name] && !short {
			t.Errorf("%s: it lacks --%s: aws %s", c.where, dashed(name), strings.Join(c.words, " "))
		}
	}
}
