package sql

import (
	"regexp"
	"strings"
	"sync/atomic"

	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/expression/function"
	"github.com/dolthub/go-mysql-server/sql/transform"
	"github.com/dolthub/go-mysql-server/sql/types"

	"originchain/shared/fault"
)

// ownRegexp replaces the planner's REGEXP, which runs a foreign library inside a
// virtual machine: a hundred times slower, without a bound on the time of a
// pattern, and leaking what nobody closes. Ours is linear in the text. It knows
// no back references and no look-around, and says so.
func ownRegexp(e gms.Expression) (gms.Expression, transform.TreeIdentity, error) {
	like, ok := e.(*function.RegexpLike)
	if !ok {
		return e, transform.SameTree, nil
	}
	return &regexpLike{text: like.Text, pattern: like.Pattern, flags: like.Flags}, transform.NewTree, nil
}

// regexpLike is text REGEXP pattern, and REGEXP_LIKE(text, pattern, flags).
type regexpLike struct {
	text, pattern, flags gms.Expression // flags may be nil
	last                 atomic.Pointer[compiledPattern]
}

type compiledPattern struct {
	source string // flags and pattern
	re     *regexp.Regexp
}

// maxPatternBytes bounds a pattern, whose program is larger than its text.
const maxPatternBytes = 8 << 10

var _ gms.CollationCoercible = (*regexpLike)(nil)

// Eval implements gms.Expression.
func (r *regexpLike) Eval(ctx *gms.Context, row gms.Row) (any, error) {
	text, err := evalText(ctx, r.text, row)
	if err != nil || text == nil {
		return nil, err
	}
	pattern, err := evalText(ctx, r.pattern, row)
	if err != nil || pattern == nil {
		return nil, err
	}
	source := *pattern
	if r.flags != nil {
		flags, err := evalText(ctx, r.flags, row)
		if err != nil || flags == nil {
			return nil, err
		}
		prefix, err := patternFlags(*flags)
		if err != nil {
			return nil, err
		}
		source = prefix + source
	}
	c := r.last.Load()
	if c == nil || c.source != source {
		if c, err = compilePattern(source); err != nil {
			return nil, err
		}
		r.last.Store(c)
	}
	return c.re.MatchString(*text), nil
}

func compilePattern(source string) (*compiledPattern, error) {
	if len(source) > maxPatternBytes {
		return nil, fault.New(fault.ValidationFailed, "the regular expression has %d bytes; at most %d are allowed", len(source), maxPatternBytes)
	}
	re, err := regexp.Compile(source)
	if err != nil {
		return nil, fault.New(fault.ValidationFailed, "%s; back references and look-around are not available", err.Error())
	}
	return &compiledPattern{source: source, re: re}, nil
}

// patternFlags turns the match type of REGEXP_LIKE into flags of a pattern.
func patternFlags(flags string) (string, error) {
	on := ""
	insensitive := false
	for _, f := range flags {
		switch f {
		case 'c':
			insensitive = false
		case 'i':
			insensitive = true
		case 'm':
			on += "m"
		case 'n':
			on += "s"
		default:
			return "", fault.New(fault.ValidationFailed, "REGEXP_LIKE knows the match types c, i, m and n, not %q", f)
		}
	}
	if insensitive {
		on += "i"
	}
	if on == "" {
		return "", nil
	}
	return "(?" + on + ")", nil
}

// evalText evaluates to text; nil is NULL.
func evalText(ctx *gms.Context, e gms.Expression, row gms.Row) (*string, error) {
	v, err := e.Eval(ctx, row)
	if err != nil || v == nil {
		return nil, err
	}
	v, _, err = types.LongText.Convert(ctx, v)
	if err != nil {
		return nil, err
	}
	s, ok := v.(string)
	if !ok {
		return nil, fault.New(fault.TypeMismatch, "REGEXP takes text")
	}
	return &s, nil
}

// Type implements gms.Expression.
func (r *regexpLike) Type() gms.Type { return types.Boolean }

// IsNullable implements gms.Expression.
func (r *regexpLike) IsNullable() bool { return true }

// Resolved implements gms.Expression.
func (r *regexpLike) Resolved() bool { return expression.ExpressionsResolved(r.Children()...) }

// Children implements gms.Expression.
func (r *regexpLike) Children() []gms.Expression {
	if r.flags == nil {
		return []gms.Expression{r.text, r.pattern}
	}
	return []gms.Expression{r.text, r.pattern, r.flags}
}

// WithChildren implements gms.Expression.
func (r *regexpLike) WithChildren(children ...gms.Expression) (gms.Expression, error) {
	if len(children) != len(r.Children()) {
		return nil, gms.ErrInvalidChildrenNumber.New(r, len(children), len(r.Children()))
	}
	n := &regexpLike{text: children[0], pattern: children[1]}
	if len(children) == 3 {
		n.flags = children[2]
	}
	return n, nil
}

// CollationCoercibility implements gms.CollationCoercible.
func (r *regexpLike) CollationCoercibility(*gms.Context) (gms.CollationID, byte) {
	return gms.Collation_binary, 5
}

func (r *regexpLike) String() string {
	args := make([]string, len(r.Children()))
	for i, c := range r.Children() {
		args[i] = c.String()
	}
	return "regexp_like(" + strings.Join(args, ", ") + ")"
}
