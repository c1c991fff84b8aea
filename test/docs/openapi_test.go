// Package docs holds the documentation to the code.
package docs

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"

	"originchain/shared/api"
	"originchain/shared/fault"
	"originchain/shared/httpx"
	"originchain/shared/tenant"
	"originchain/writer"
)

// document is what the tests read of docs/openapi.yaml.
type document struct {
	raw        map[string]any
	Paths      map[string]map[string]any `yaml:"paths"`
	Security   []map[string]any          `yaml:"security"`
	Components struct {
		Schemas    map[string]object         `yaml:"schemas"`
		Parameters map[string]map[string]any `yaml:"parameters"`
		Headers    map[string]any            `yaml:"headers"`
	} `yaml:"components"`
}

// object is a schema, as far as it is compared with a Go type.
type object struct {
	Required   []string                  `yaml:"required"`
	Properties map[string]map[string]any `yaml:"properties"`
	Closed     any                       `yaml:"additionalProperties"`
}

func load(t *testing.T) document {
	t.Helper()
	src, err := os.ReadFile("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var d document
	if err := yaml.Unmarshal(src, &d); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(src, &d.raw); err != nil {
		t.Fatal(err)
	}
	return d
}

// operation is one method of one path, as the document or the server has it.
type operation struct{ Name, Summary, Scope string }

var methods = []string{"get", "put", "post", "delete", "patch", "head", "options", "trace"}

// operations lists the document's operations by method and path.
func (d *document) operations() map[string]operation {
	out := make(map[string]operation)
	for path, item := range d.Paths {
		for _, method := range methods {
			op, ok := item[method].(map[string]any)
			if !ok {
				continue
			}
			out[strings.ToUpper(method)+" "+path] = operation{Name: fmt.Sprint(op["operationId"]), Summary: fmt.Sprint(op["summary"]), Scope: d.scope(op)}
		}
	}
	return out
}

// scope reads who may call from an operation's security, or the document's.
func (d *document) scope(op map[string]any) string {
	own, given := op["security"].([]any)
	if !given {
		return schemes(d.Security)
	}
	var list []map[string]any
	for _, s := range own {
		list = append(list, s.(map[string]any))
	}
	return schemes(list)
}

func schemes(list []map[string]any) string {
	if len(list) == 0 {
		return httpx.Public.String()
	}
	var names []string
	for _, s := range list {
		for name := range s {
			names = append(names, name)
		}
	}
	return strings.Join(names, "+")
}

func TestOpenAPIHasTheRoutesAndNoOthers(t *testing.T) {
	d := load(t)
	served := make(map[string]operation)
	for _, r := range writer.Routes() {
		served[r.Method+" "+r.Pattern] = operation{Name: r.Name, Summary: r.Summary, Scope: r.Scope.String()}
	}
	if diff := cmp.Diff(served, d.operations()); diff != "" {
		t.Errorf("docs/openapi.yaml (+) differs from the routes (-):\n%s", diff)
	}
}

var pathParameter = regexp.MustCompile(`{(\w+)}`)

func TestOpenAPIOperationsAreWhole(t *testing.T) {
	d := load(t)
	for path, item := range d.Paths {
		var want []string
		for _, m := range pathParameter.FindAllStringSubmatch(path, -1) {
			want = append(want, m[1])
		}
		for _, method := range methods {
			op, ok := item[method].(map[string]any)
			if !ok {
				continue
			}
			name := method + " " + path
			got := append(d.pathParameters(t, item["parameters"]), d.pathParameters(t, op["parameters"])...)
			if !slices.Equal(got, want) {
				t.Errorf("%s: path parameters %v, want %v", name, got, want)
			}
			responses := op["responses"].(map[string]any)
			if diff := cmp.Diff(map[string]any{"$ref": "#/components/responses/Error"}, responses["default"]); diff != "" {
				t.Errorf("%s: the default answer is not the error envelope", name)
			}
			success := 0
			for status := range responses {
				if strings.HasPrefix(status, "2") {
					success++
				}
			}
			if success != 1 || op["tags"] == nil {
				t.Errorf("%s: %d successful answers, tags %v", name, success, op["tags"])
			}
		}
	}
}

// pathParameters names the parameters of a list that are in the path.
func (d *document) pathParameters(t *testing.T, list any) []string {
	t.Helper()
	var names []string
	items, _ := list.([]any)
	for _, item := range items {
		p := item.(map[string]any)
		if ref, ok := p["$ref"].(string); ok {
			p = d.Components.Parameters[path.Base(ref)]
		}
		if p["in"] == "path" {
			names = append(names, fmt.Sprint(p["name"]))
		}
	}
	return names
}

// wire are the Go types behind the document's schemas.
var wire = []any{
	api.Error{}, api.Health{}, api.Ready{}, api.Check{}, api.Usage{}, api.Configuration{}, api.UsageLimits{}, api.UsageUsed{}, api.SchemaUsage{},
	api.VectorUsage{}, api.InFlight{}, api.Subscription{}, api.AddonCalls{}, api.DiagnosticsRequest{}, api.DiagnosticsAccepted{}, api.QueryCancelled{},
	api.RegisteredSchema{}, api.WrittenRow{}, api.DeletedRow{}, api.Batch{}, api.SQLRequest{}, api.SelectResult{}, api.ExplainResult{}, api.InsertResult{},
	api.UpdateResult{}, api.DeleteResult{}, api.TxResult{}, api.DDLResult{}, api.CreateTenantRequest{}, api.CreatedTenant{}, api.Tenants{}, api.Tenant{},
	api.Tokens{}, api.Token{}, api.MintTokenRequest{}, api.MintedToken{}, api.RevokedToken{}, api.Replication{}, api.FollowerInfo{}, api.SetAside{}, api.Archive{}, api.ArchiveObject{},
	api.TenantConfig{}, api.SetTenantConfigRequest{}, api.Topology{},
}

// field is a member of an object on the wire.
type field struct {
	Type     string
	Required bool
}

func TestOpenAPISchemasAreTheWireTypes(t *testing.T) {
	d := load(t)
	known := map[string]bool{"Row": true, "SQLResult": true} // a row has its table's columns; SQLResult is the union of the results
	for _, v := range wire {
		typ := reflect.TypeOf(v)
		known[typ.Name()] = true
		schema, ok := d.Components.Schemas[typ.Name()]
		if !ok {
			t.Errorf("no schema %s", typ.Name())
			continue
		}
		got := make(map[string]field)
		for name, p := range schema.Properties {
			got[name] = field{Type: documented(p), Required: slices.Contains(schema.Required, name)}
		}
		if diff := cmp.Diff(fields(typ), got); diff != "" {
			t.Errorf("schema %s (+) differs from its Go type (-):\n%s", typ.Name(), diff)
		}
		if closed := schema.Closed == false; closed != strings.HasSuffix(typ.Name(), "Request") {
			t.Errorf("schema %s: a request is closed, an answer is open; additionalProperties is %v", typ.Name(), schema.Closed)
		}
	}
	for name := range d.Components.Schemas {
		if !known[name] {
			t.Errorf("schema %s has no Go type", name)
		}
	}
}

// fields reads the members of a Go type from its tags.
func fields(typ reflect.Type) map[string]field {
	out := make(map[string]field)
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		out[name] = field{Type: kind(f.Type), Required: options == ""}
	}
	return out
}

// kind is the JSON type of a Go type; a named object is its name.
func kind(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[json.RawMessage]():
		return "any"
	case t.String() == "time.Time":
		return "string"
	case t.Kind() == reflect.Pointer:
		return kind(t.Elem())
	}
	switch t.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int64, reflect.Uint32, reflect.Uint64:
		return "integer"
	case reflect.Float64:
		return "number"
	case reflect.Slice:
		return "array"
	case reflect.Map:
		return "object"
	case reflect.Struct:
		return t.Name()
	}
	return t.String()
}

// documented is the JSON type of a property in the document.
func documented(p map[string]any) string {
	if ref, ok := p["$ref"].(string); ok {
		return path.Base(ref)
	}
	switch typ := p["type"].(type) {
	case []any: // a type or null
		return fmt.Sprint(typ[0])
	case string:
		if typ == "object" && p["additionalProperties"] == true {
			return "any"
		}
		return typ
	}
	return "any"
}

func TestOpenAPIReferencesResolve(t *testing.T) {
	d := load(t)
	used := make(map[string]bool)
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				used[ref] = true
				var at any = d.raw
				for _, step := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
					m, _ := at.(map[string]any)
					at = m[step]
				}
				if at == nil {
					t.Errorf("%s is nowhere", ref)
				}
			}
			for _, child := range v {
				walk(child)
			}
		case []any:
			for _, child := range v {
				walk(child)
			}
		}
	}
	walk(d.raw)
	for kind, list := range d.raw["components"].(map[string]any) {
		if kind == "securitySchemes" {
			continue
		}
		for name := range list.(map[string]any) {
			if ref := "#/components/" + kind + "/" + name; !used[ref] {
				t.Errorf("%s is not used", ref)
			}
		}
	}
}

func TestOpenAPIKnowsTheCodesAndTiers(t *testing.T) {
	d := load(t)
	codes := d.enum("Error", "error")
	description := d.raw["components"].(map[string]any)["responses"].(map[string]any)["Error"].(map[string]any)["description"].(string)
	for _, code := range codes {
		if status := fault.Status(fault.Code(code)); status == 500 && code != string(fault.ServerError) {
			t.Errorf("%s is not a code", code)
		}
		if !strings.Contains(description, "`"+code+"`") {
			t.Errorf("the description of errors lacks %s", code)
		}
	}
	for _, code := range codesOf(t, "../../shared/fault/fault.go") {
		if !slices.Contains(codes, string(code.Wire())) {
			t.Errorf("code %s is not documented", code)
		}
	}
	var tiers []string
	for _, tier := range tenant.Tiers() {
		tiers = append(tiers, tier.Slug)
	}
	if diff := cmp.Diff(tiers, d.enum("CreateTenantRequest", "tier")); diff != "" {
		t.Errorf("tiers (-code +docs):\n%s", diff)
	}
}

// codesOf reads the constants of type Code from a source file: the package
// offers no list, and a list beside the constants could fall behind them.
func codesOf(t *testing.T, file string) []fault.Code {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []fault.Code
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); !ok || typ.Name != "Code" {
			return true
		}
		for _, value := range spec.Values {
			text, err := strconv.Unquote(value.(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, fault.Code(text))
		}
		return true
	})
	if len(out) == 0 {
		t.Fatalf("no codes in %s", file)
	}
	return out
}

// enum is the list of values of a property.
func (d *document) enum(schema, property string) []string {
	var out []string
	for _, v := range d.Components.Schemas[schema].Properties[property]["enum"].([]any) {
		out = append(out, fmt.Sprint(v))
	}
	return out
}
