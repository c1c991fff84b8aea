// Package prices are list prices of AWS by region, in US dollars, dated, each with where
// it is from. There is none that cannot be supported: what is not here has no price, and
// whoever asks for it is told so.
package prices

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

//go:embed *.json
var files embed.FS

// List are the prices of a region.
type List struct {
	Region string `json:"region"`
	// Date is when the list was made.
	Date     string            `json:"date"`
	Currency string            `json:"currency"`
	Sources  map[string]Source `json:"sources"`
	Prices   map[string]Price  `json:"prices"`
}

// Source is where prices are from.
type Source struct {
	What string `json:"what"`
	// AsOf is the day that the source says its prices are of, if it says so; Read the day
	// that it was read.
	AsOf string `json:"as_of,omitempty"`
	Read string `json:"read"`
}

// Price is what one of something costs.
type Price struct {
	USD float64 `json:"usd"`
	// Per is what one of it is.
	Per string `json:"per"`
	// Source is a key of the list's sources.
	Source string `json:"source"`
}

// MissingError names what a list has no price for.
type MissingError struct {
	Region string
	Keys   []string
}

// Error is one line.
func (e *MissingError) Error() string {
	return fmt.Sprintf("the prices of %s have none for %s: add it to infra/prices/%s.json with its source, and leave nothing at zero", e.Region, strings.Join(e.Keys, ", "), e.Region)
}

// Regions are those with a list.
func Regions() ([]string, error) {
	entries, err := files.ReadDir(".")
	var out []string
	for _, e := range entries {
		out = append(out, strings.TrimSuffix(e.Name(), ".json"))
	}
	return out, err
}

// Load reads the list of a region.
func Load(region string) (*List, error) {
	text, err := files.ReadFile(region + ".json")
	if err != nil {
		return nil, fmt.Errorf("there are no prices of region %q: %w", region, err)
	}
	l, err := Parse(text)
	if err == nil && l.Region != region {
		err = fmt.Errorf("it is of %q", l.Region)
	}
	if err != nil {
		return nil, fmt.Errorf("infra/prices/%s.json: %w", region, err)
	}
	return l, nil
}

// Parse reads a list and refuses one with a price that is not supported.
func Parse(text []byte) (*List, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	l := &List{}
	if err := d.Decode(l); err != nil {
		return nil, err
	}
	if l.Currency != "USD" || !day(l.Date) || l.Region == "" {
		return nil, fmt.Errorf("currency %q, date %q, region %q: it is of a region, in USD, of a day", l.Currency, l.Date, l.Region)
	}
	used := make(map[string]bool)
	for key, p := range l.Prices {
		if _, ok := l.Sources[p.Source]; !ok || p.USD <= 0 || p.Per == "" {
			return nil, fmt.Errorf("%s: %v USD per %q from %q: a price is above zero, of something, from a source that is named", key, p.USD, p.Per, p.Source)
		}
		used[p.Source] = true
	}
	for name, s := range l.Sources {
		if !used[name] || s.What == "" || !day(s.Read) || s.AsOf != "" && !day(s.AsOf) || s.AsOf > s.Read {
			return nil, fmt.Errorf("source %s: %+v: it has a day on which it was read, not before that of its prices, and a price is from it", name, s)
		}
	}
	return l, nil
}

func day(text string) bool {
	_, err := time.Parse(time.DateOnly, text)
	return err == nil
}

// Cost is what quantities cost, by key of a price. The error is a *MissingError.
func (l *List) Cost(quantities map[string]float64) (float64, error) {
	var sum float64
	var missing []string
	// In an order, so that the sum is the same each time.
	for _, key := range slices.Sorted(maps.Keys(quantities)) {
		p, ok := l.Prices[key]
		if !ok {
			missing = append(missing, key)
		}
		sum += p.USD * quantities[key]
	}
	if len(missing) > 0 {
		return 0, &MissingError{l.Region, missing}
	}
	return sum, nil
}
