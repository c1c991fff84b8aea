package stack_test

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// request is what somebody asks of AWS.
type request struct {
	// principal is the ARN of the role.
	principal, action, resource string
	// context has the keys that conditions are about; one that is missing is null.
	context map[string]string
}

// severalValues is between the values of a key that has several.
const severalValues = "|"

// resolve makes a text of what CloudFormation would: a reference is the id in brackets,
// an attribute the id with it, and an ARN of a bucket its ARN.
func (tm template) resolve(v any) string {
	m, ok := v.(map[string]any)
	if !ok {
		return fmt.Sprint(v)
	}
	if ref, ok := m["Ref"].(string); ok {
		return "<" + ref + ">"
	}
	if name, ok := m["Fn::ImportValue"].(string); ok {
		_, id, _ := strings.Cut(name, "ExportsOutput")
		return "<" + id + ">"
	}
	if a, ok := m["Fn::GetAtt"].([]any); ok {
		if name, ok := at(tm["Resources"], a[0], "Properties", "BucketName").(string); ok && a[1] == "Arn" {
			return "arn:aws:s3:::" + name
		}
		return fmt.Sprintf("<%v.%v>", a[0], a[1])
	}
	var b strings.Builder
	for _, part := range at(m, "Fn::Join", 1).([]any) {
		b.WriteString(tm.resolve(part))
	}
	return b.String()
}

func (tm template) texts(v any) (out []string) {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	for _, e := range list {
		out = append(out, tm.resolve(e))
	}
	return out
}

// meets evaluates the conditions of a statement as IAM does, for the operators in use.
// An operator that it does not know fails the test.
func (tm template) meets(t *testing.T, s *statement, r request) bool {
	t.Helper()
	context := map[string]string{"aws:PrincipalArn": r.principal}
	for k, v := range r.context {
		context[k] = v
	}
	for operator, keys := range s.Condition {
		for key, want := range keys {
			wanted := tm.texts(want)
			got, there := context[key]
			var ok bool
			switch operator {
			case "Null":
				ok = strconv.FormatBool(!there) == wanted[0]
			case "Bool", "StringEquals", "ForAnyValue:StringEquals":
				ok = there && slices.Contains(wanted, got)
			case "ForAllValues:StringEquals":
				ok = !there || !slices.ContainsFunc(strings.Split(got, severalValues), func(v string) bool { return !slices.Contains(wanted, v) })
			case "BoolIfExists":
				ok = !there || slices.Contains(wanted, got)
			case "StringNotEquals":
				ok = !slices.Contains(wanted, got)
			case "ArnNotEquals":
				ok = !slices.ContainsFunc(wanted, func(w string) bool { return like(w, got) })
			case "ArnEquals", "ArnLike":
				ok = there && slices.ContainsFunc(wanted, func(w string) bool { return like(w, got) })
			case "NumericLessThan":
				least, err := strconv.ParseFloat(wanted[0], 64)
				value, err2 := strconv.ParseFloat(got, 64)
				ok = there && err == nil && err2 == nil && value < least
			default:
				t.Fatalf("the operator %s is not known here", operator)
			}
			if !ok {
				return false
			}
		}
	}
	return true
}

// like matches with IAM's wildcards: * is any text and ? one character, whatever they
// are; nothing else is more than itself.
func like(pattern, text string) bool {
	p := strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(regexp.QuoteMeta(pattern))
	return regexp.MustCompile(`(?s)^` + p + `$`).MatchString(text)
}

func TestLikeHasTheWildcardsOfIAM(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"s3:Get*", "s3:GetObject", true}, {"*", "a/b:c", true}, {"a/*", "a/b/c", true}, {"a?c", "a/c", true}, {"a?c", "ac", false},
		{"a.c", "abc", false}, {"[ab]", "a", false}, {"[ab]", "[ab]", true}, {`a\*`, "a*", false}, {"b", "abc", false},
	} {
		if got := like(c.pattern, c.text); got != c.want {
			t.Errorf("%q like %q is %v", c.text, c.pattern, got)
		}
	}
}

// applies says that a statement is about the request.
func (tm template) applies(t *testing.T, s *statement, r request) bool {
	t.Helper()
	return slices.ContainsFunc(s.actions(), func(a string) bool { return like(a, r.action) }) &&
		slices.ContainsFunc(tm.texts(s.Resource), func(p string) bool { return like(p, r.resource) }) && tm.meets(t, s, r)
}

// denied says that one of the statements forbids the request, and which.
func (tm template) denied(t *testing.T, of []statement, r request) string {
	t.Helper()
	for i := range of {
		if of[i].Effect == "Deny" && tm.applies(t, &of[i], r) {
			return of[i].Sid + "!"
		}
	}
	return ""
}

// allowed says that one of the statements allows the request.
func (tm template) allowed(t *testing.T, of []statement, r request) bool {
	t.Helper()
	return slices.ContainsFunc(of, func(s statement) bool { return s.Effect == "Allow" && tm.applies(t, &s, r) })
}

// may says whether somebody with these statements, and no others, may do it.
func (tm template) may(t *testing.T, with []statement, action, resource string, context ...string) bool {
	t.Helper()
	r := request{action: action, resource: resource, context: make(map[string]string)}
	for i := 0; i < len(context); i += 2 {
		r.context[context[i]] = context[i+1]
	}
	return tm.allowed(t, with, r) && tm.denied(t, with, r) == ""
}

// policyOf are the statements of a role's own policy.
func (tm template) policyOf(t *testing.T, role string) []statement {
	t.Helper()
	for _, p := range tm.resources("AWS::IAM::Policy") {
		if strings.HasPrefix(tm.resolve(at(p, "Properties", "Roles", 0)), "<"+role) {
			return statements(t, at(p, "Properties", "PolicyDocument"))
		}
	}
	t.Fatalf("%s has no policy", role)
	return nil
}

// grants says that the policy of a resource, as a key's or who may take a role, lets
// somebody do something who has a policy of their own too. A statement about the account
// (":root") grants nothing by itself: it leaves it to that policy.
func (tm template) grants(t *testing.T, policy, own []statement, r request) bool {
	t.Helper()
	return tm.denied(t, policy, r) == "" && slices.ContainsFunc(policy, func(s statement) bool {
		if s.Resource == nil {
			s.Resource = "*"
		}
		if s.Effect != "Allow" || !tm.applies(t, &s, r) {
			return false
		}
		for _, p := range tm.principals(&s) {
			if p == "*" || p == r.principal || strings.HasSuffix(p, ":root") && tm.allowed(t, own, r) {
				return true
			}
		}
		return false
	})
}

// principals are whom a statement is about: ARNs, names of services, or * for everybody.
func (tm template) principals(s *statement) (out []string) {
	if p, ok := s.Principal.(map[string]any); ok {
		for _, kind := range p {
			out = append(out, tm.texts(kind)...)
		}
		return out
	}
	return tm.texts(s.Principal)
}
