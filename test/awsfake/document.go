package awsfake

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"originchain/test/awsfake/model"
)

// document is an SSM document of schema 2.2 that runs a shell script.
type document struct {
	SchemaVersion string               `json:"schemaVersion"`
	Description   string               `json:"description"`
	Parameters    map[string]parameter `json:"parameters"`
	MainSteps     []struct {
		Action       string `json:"action"`
		Name         string `json:"name"`
		Precondition any    `json:"precondition"`
		Inputs       struct {
			RunCommand       []string `json:"runCommand"`
			TimeoutSeconds   any      `json:"timeoutSeconds"`
			WorkingDirectory string   `json:"workingDirectory"`
		} `json:"inputs"`
	} `json:"mainSteps"`

	allowed map[string]*regexp.Regexp
}

type parameter struct {
	Type           string   `json:"type"`
	Description    string   `json:"description"`
	Default        *string  `json:"default"`
	AllowedPattern string   `json:"allowedPattern"`
	AllowedValues  []string `json:"allowedValues"`
	MinChars       int      `json:"minChars"`
	MaxChars       int      `json:"maxChars"`
}

// placeholder is {{ Name }} in a script.
var placeholder = regexp.MustCompile(`\{\{\s*([A-Za-z0-9_]+)\s*\}\}`)

func parseDocument(content string) (*document, error) {
	d := &document{allowed: map[string]*regexp.Regexp{}}
	dec := json.NewDecoder(strings.NewReader(content))
	dec.DisallowUnknownFields()
	if err := dec.Decode(d); err != nil {
		return nil, err
	}
	if d.SchemaVersion != "2.2" || len(d.MainSteps) != 1 || d.MainSteps[0].Action != "aws:runShellScript" || len(d.MainSteps[0].Inputs.RunCommand) == 0 {
		return nil, errors.New("it is not of schema 2.2 with the one step aws:runShellScript")
	}
	for name, p := range d.Parameters {
		if p.Type != "String" {
			return nil, fmt.Errorf("the parameter %s is a %s, not a String", name, p.Type)
		}
		re, err := regexp.Compile(p.AllowedPattern)
		if err != nil {
			return nil, fmt.Errorf("the parameter %s: %w", name, err)
		}
		d.allowed[name] = re
	}
	for _, used := range placeholder.FindAllStringSubmatch(strings.Join(d.MainSteps[0].Inputs.RunCommand, "\n"), -1) {
		if _, ok := d.Parameters[used[1]]; !ok {
			return nil, fmt.Errorf("its script uses %s, which is no parameter", used[0])
		}
	}
	return d, nil
}

// script is what is run with parameters.
func (d *document) script(given model.Struct) (string, error) {
	values := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		list, _ := given[name].([]any)
		p, known := d.Parameters[name]
		if !known || len(list) != 1 {
			return "", refuse("InvalidParameters", "Parameter %q is not one of the document's, once", name)
		}
		v, _ := list[0].(string)
		if !d.allowed[name].MatchString(v) || len(p.AllowedValues) > 0 && !slices.Contains(p.AllowedValues, v) ||
			len(v) < p.MinChars || p.MaxChars > 0 && len(v) > p.MaxChars {
			return "", refuse("InvalidParameters", "Parameter %q: %.60q does not satisfy its constraints", name, v)
		}
		values[name] = v
	}
	for name, p := range d.Parameters {
		if _, ok := values[name]; ok {
			continue
		}
		if p.Default == nil {
			return "", refuse("InvalidParameters", "Parameter %q is missing", name)
		}
		values[name] = *p.Default
	}
	return placeholder.ReplaceAllStringFunc(strings.Join(d.MainSteps[0].Inputs.RunCommand, "\n"), func(use string) string {
		return values[placeholder.FindStringSubmatch(use)[1]]
	}), nil
}
