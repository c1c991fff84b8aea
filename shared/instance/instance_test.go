package instance

import (
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	for _, name := range []string{"a1", "acme", "a--", "acme-2", "a" + strings.Repeat("b", 30)} {
		if err := CheckName(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", "a", "Acme", "1a", "-a", "a_b", "a.b", "acme/..", "acme\n", "äcme", "a" + strings.Repeat("b", 31)} {
		if err := CheckName(name); err == nil || !strings.Contains(err.Error(), "no name of an instance") {
			t.Errorf("%q: %v", name, err)
		}
	}
}
