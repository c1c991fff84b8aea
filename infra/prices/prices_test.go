package prices_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"originchain/infra/prices"
)

func TestListsAreSupported(t *testing.T) {
	regions, err := prices.Regions()
	if err != nil || !slices.Equal(regions, []string{"eu-central-1", "us-east-1"}) {
		t.Fatalf("%q, %v", regions, err)
	}
	for _, r := range regions {
		if l, err := prices.Load(r); err != nil || len(l.Prices) < 20 {
			t.Errorf("%s: %+v, %v", r, l, err)
		}
	}
	if _, err := prices.Load("us-west-1"); err == nil {
		t.Error("a region without a list has one")
	}
}

const list = `{"region": "us-east-1", "date": "2026-11-29", "currency": "USD", "sources": {"s": {"what": "a page", "read": "2026-11-29", "as_of": "2026-11-28"}},
	"prices": {"a": {"usd": 0.5, "per": "hour", "source": "s"}}}`

func TestWhatIsNotSupportedIsRefused(t *testing.T) {
	if _, err := prices.Parse([]byte(list)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string][2]string{
		"another currency":   {`"USD"`, `"EUR"`},
		"no day":             {`"date": "2026-11-29"`, `"date": "lately"`},
		"no price":           {`0.5`, `0`},
		"a refund":           {`0.5`, `-1`},
		"of nothing":         {`"hour"`, `""`},
		"from nowhere":       {`"source": "s"`, `"source": "t"`},
		"a source unused":    {`"sources": {`, `"sources": {"t": {"what": "x", "read": "2026-11-29"}, `},
		"read before it was": {`"as_of": "2026-11-28"`, `"as_of": "2026-11-30"`},
		"never read":         {`"read": "2026-11-29", `, ``},
		"a field unknown":    {`"usd"`, `"eur"`},
	} {
		text := strings.Replace(list, c[0], c[1], 1)
		if _, err := prices.Parse([]byte(text)); err == nil || text == list {
			t.Errorf("%s is taken: %s", name, text)
		}
	}
}

func TestCost(t *testing.T) {
	l, err := prices.Parse([]byte(list))
	if err != nil {
		t.Fatal(err)
	}
	if usd, err := l.Cost(map[string]float64{"a": 730}); err != nil || math.Abs(usd-365) > 1e-9 {
		t.Errorf("%v, %v", usd, err)
	}
	var missing *prices.MissingError
	if usd, err := l.Cost(map[string]float64{"a": 1, "c": 1, "b": 0}); !errors.As(err, &missing) || !slices.Equal(missing.Keys, []string{"b", "c"}) || usd != 0 {
		t.Errorf("%v, %v", usd, err)
	}
}
