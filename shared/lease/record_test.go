package lease

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"originchain/shared/lsn"
)

const instance = "01HZX3V9J8Q2W4E6R8T0Y2M4K6"

// full has something in every field.
func full() Record {
	return Record{Instance: instance, Version: 9, Epoch: 5, ConfirmedEpoch: 2, Holder: "c",
		ReplicationAddress: "10.0.0.3:7000", URL: "https://c.example:443", Released: true, CommitLSN: 90,
		Eligible: []string{"a", "b", "c"},
		Line:     []Opening{{1, 1, 0}, {2, 96, 1}, {3, 120, 2}, {5, 118, 2}}}
}

// TestTheEncodingIsStable: other nodes read what this one writes, years later.
func TestTheEncodingIsStable(t *testing.T) {
	want := `{"format":1,"instance":"01HZX3V9J8Q2W4E6R8T0Y2M4K6","version":9,"epoch":5,"holder":"c","confirmed_epoch":2,` +
		`"replication_address":"10.0.0.3:7000","url":"https://c.example:443","released":true,"commit_lsn":90,"sync_replicas":0,"eligible":["a","b","c"],` +
		`"line":[{"epoch":1,"first_lsn":1,"parent":0},{"epoch":2,"first_lsn":96,"parent":1},{"epoch":3,"first_lsn":120,"parent":2},{"epoch":5,"first_lsn":118,"parent":2}]}` + "\n"
	b, err := full().Encode()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(b)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	r, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(full(), r); diff != "" {
		t.Errorf("decoded (-want +got):\n%s", diff)
	}
}

func TestWhatANewerServerWroteIsRefused(t *testing.T) {
	b, err := full().Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		old, new string
		newer    bool
	}{
		"a higher format":          {`"format":1`, `"format":2`, true},
		"an unknown field":         {`"version":9`, `"version":9,"witness":"d"`, true},
		"an unknown field inside":  {`"parent":0`, `"parent":0,"chain":"00"`, true},
		"a higher format, changed": {`"format":1,"instance":"` + instance, `"format":2,"instance":["x"],"y":"`, true},
		"no format":                {`"format":1,`, ``, false},
		"another type":             {`"epoch":5`, `"epoch":"5"`, false},
		"a negative number":        {`"epoch":5`, `"epoch":-5`, false},
		"not valid":                {`"epoch":5`, `"epoch":4`, false},
	} {
		text := strings.Replace(string(b), c.old, c.new, 1)
		if text == string(b) {
			t.Fatalf("%s changes nothing", name)
		}
		if _, err := Decode([]byte(text)); err == nil || errors.Is(err, ErrNewerFormat) != c.newer {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestValidateListsEveryFault(t *testing.T) {
	if err := full().Validate(); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("n", MaxNodeBytes+1)
	for name, c := range map[string]struct {
		change func(*Record)
		faults []string
	}{
		"instance":             {func(r *Record) { r.Instance = strings.ToLower(instance) }, []string{"instance"}},
		"no instance":          {func(r *Record) { r.Instance = "" }, []string{"instance"}},
		"version":              {func(r *Record) { r.Version = 0 }, []string{"version is 0"}},
		"holder":               {func(r *Record) { r.Holder = "c d" }, []string{"holder"}},
		"long holder":          {func(r *Record) { r.Holder = long }, []string{"holder"}},
		"no url":               {func(r *Record) { r.URL = "" }, []string{"url"}},
		"url":                  {func(r *Record) { r.URL = "c.example:443" }, []string{"url"}},
		"long url":             {func(r *Record) { r.URL = "http://" + strings.Repeat("h", maxAddressBytes) }, []string{"url"}},
		"address":              {func(r *Record) { r.ReplicationAddress = "10.0.0.3" }, []string{"replication_address"}},
		"port":                 {func(r *Record) { r.ReplicationAddress = "10.0.0.3:0" }, []string{"replication_address"}},
		"confirmed above":      {func(r *Record) { r.ConfirmedEpoch = 6 }, []string{"above epoch", "does not continue", "missing"}},
		"confirmed missing":    {func(r *Record) { r.Line = r.Line[2:] }, []string{"the confirmed epoch 2 is missing"}},
		"unsorted":             {func(r *Record) { r.Eligible = []string{"b", "a"} }, []string{"not sorted"}},
		"twice":                {func(r *Record) { r.Eligible = []string{"a", "a"} }, []string{"twice"}},
		"no node":              {func(r *Record) { r.Eligible = []string{""} }, []string{"not a node id"}},
		"set before confirmed": {func(r *Record) { r.InSync = []string{"a"} }, []string{"in_sync is not empty"}},
		"holder in its set":    {func(r *Record) { r.InSync = []string{"c"} }, []string{"in_sync holds the holder", "in_sync is not empty"}},
		"eligible afterwards": {func(r *Record) { r.ConfirmedEpoch = 5; r.Line = []Opening{{2, 96, 1}, {5, 118, 2}} },
			[]string{"eligible is not empty"}},
		"no line":       {func(r *Record) { r.Line = nil; r.ConfirmedEpoch = 0 }, []string{"0 openings"}},
		"line too long": {func(r *Record) { r.Line = make([]Opening, MaxLine+1) }, []string{"257 openings", "opens at LSN 0"}},
		"line ends":     {func(r *Record) { r.Line = r.Line[:3] }, []string{"ends with epoch 3"}},
		"line order":    {func(r *Record) { r.Line[2].Epoch = 6 }, []string{"comes after"}},
		"line gap":      {func(r *Record) { r.Line[1].Parent = 0 }, []string{"does not continue"}},
		"line falls":    {func(r *Record) { r.Line[1].FirstLSN = 1 }, []string{"does not continue"}},
		"own parent":    {func(r *Record) { r.Line[3].Parent = 5 }, []string{"behind epoch 5"}},
		"full set":      {func(r *Record) { r.Eligible = nodes(MaxMembers + 2) }, []string{"66 nodes"}},
		"everything":    {func(r *Record) { *r = Record{} }, []string{"instance", "version", "epoch is 0", "holder", "url", "openings"}},
	} {
		r := full()
		c.change(&r)
		err := r.Validate()
		if err == nil {
			t.Errorf("%s: nothing found", name)
			continue
		}
		for _, want := range c.faults {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q is not in:\n%v", name, want, err)
			}
		}
		if _, err := r.Encode(); err == nil {
			t.Errorf("%s: it was encoded", name)
		}
	}
}

func nodes(n int) (ids []string) {
	for i := range n {
		ids = append(ids, fmt.Sprintf("node-%03d", i))
	}
	return ids
}

// TestTheLargestRecordFits: no valid record is refused for its size.
func TestTheLargestRecordFits(t *testing.T) {
	r := full()
	r.Holder = strings.Repeat("h", MaxNodeBytes)
	r.URL = "http://" + strings.Repeat("h", maxAddressBytes-7)
	r.ReplicationAddress = strings.Repeat("h", maxAddressBytes-6) + ":65535"
	r.Version, r.CommitLSN, r.Epoch = math.MaxUint64, math.MaxUint64, math.MaxUint64
	r.ConfirmedEpoch, r.Line, r.Eligible = 0, nil, nil
	for i := range uint64(MaxLine) {
		e := lsn.Epoch(math.MaxUint64 - MaxLine + 1 + i)
		r.Line = append(r.Line, Opening{e, math.MaxUint64, e - 1})
	}
	for i := range MaxMembers + 1 {
		r.Eligible = append(r.Eligible, fmt.Sprintf("%0*d", MaxNodeBytes, i))
	}
	b, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > MaxRecordBytes {
		t.Errorf("%d bytes", len(b))
	}
	got, err := Decode(b)
	if err != nil || !slices.Equal(got.Line, r.Line) {
		t.Errorf("decoded: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	b, err := full().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Decode(b)
		if err != nil {
			return
		}
		again, err := r.Encode()
		if err != nil {
			t.Fatalf("decoded and cannot be encoded: %v", err)
		}
		if _, err := Decode(again); err != nil {
			t.Fatalf("encoded and cannot be decoded: %v", err)
		}
	})
}
