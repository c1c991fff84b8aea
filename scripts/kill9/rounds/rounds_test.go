package rounds

import (
	"strings"
	"testing"
	"time"
)

// The checks must see each way in which a server can break its word.
func TestEachBrokenPromiseIsSeen(t *testing.T) {
	one := row{ID: "r000001-0000-000000001", Client: 0, N: 1, Body: "a"}
	two := row{ID: "r000001-0000-000000002", Client: 0, N: 2, Body: "b"}
	changed := one
	changed.Body = "other"
	cases := []struct {
		name      string
		w         write
		found     []row
		registers map[int64]int64
		want      string // "" holds
		survived  bool
	}{
		{"acknowledged and there", write{rows: []row{one}, status: 200}, []row{one}, nil, "", true},
		{"acknowledged and lost", write{rows: []row{one}, status: 200}, nil, nil, "is lost", false},
		{"under way and lost", write{rows: []row{one}}, nil, nil, "", false},
		{"under way and there", write{rows: []row{one}}, []row{one}, nil, "", true},
		{"there and not as written", write{rows: []row{one}}, []row{changed}, nil, "not what was written", false},
		{"half a batch", write{rows: []row{one, two}}, []row{two}, nil, "torn", false},
		{"register", write{register: &register{0, 5}, status: 200}, nil, map[int64]int64{0: 6}, "", true},
		{"register gone back", write{register: &register{0, 5}, status: 200}, nil, map[int64]int64{0: 4}, "is lost", false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := &run{model: newModel(1)}
			found := map[string]row{}
			for _, f := range c.found {
				found[f.ID] = f
			}
			survived, err := r.checkWrite(&c.w, found, c.registers)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if survived != c.survived {
				t.Errorf("survived: %t", survived)
			}
			if kept := len(r.model.rows) + len(r.model.registers); (kept > 0) != (c.w.acked() && c.want == "") {
				t.Errorf("the model holds %d, but only what is acknowledged belongs in it", kept)
			}
		})
	}
}

func TestConfigThatProvesNothingIsRefused(t *testing.T) {
	for _, c := range []Config{
		{Rounds: 0, Clients: 1, MinLife: 1, MaxLife: 1},
		{Rounds: 1, Clients: 0, MinLife: 1, MaxLife: 1},
		{Rounds: 1, Clients: 1, MinLife: 2 * time.Second, MaxLife: time.Second},
	} {
		if _, err := Run(t.Context(), c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}
