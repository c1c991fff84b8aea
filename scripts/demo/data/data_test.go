package data

import "testing"

// The demo's README and its loader rely on these facts of the files.
func TestEveryFlightIsBetweenKnownAirports(t *testing.T) {
	airports, err := Airports()
	if err != nil {
		t.Fatal(err)
	}
	flights, err := Flights()
	if err != nil {
		t.Fatal(err)
	}
	if len(airports) != 3376 || len(flights) != 20000 {
		t.Fatalf("%d airports and %d flights, want 3376 and 20000", len(airports), len(flights))
	}
	codes := make(map[string]bool, len(airports))
	unknown := 0
	for _, a := range airports {
		if codes[a.IATA] {
			t.Errorf("airport %s is there twice", a.IATA)
		}
		codes[a.IATA] = true
		if a.City == nil {
			unknown++
		}
	}
	if unknown != 12 {
		t.Errorf("%d airports without a city, want 12", unknown)
	}
	for i, f := range flights {
		if f.ID != int64(i)+1 || !codes[f.Origin] || !codes[f.Destination] || f.Distance <= 0 || f.Date == "" {
			t.Fatalf("flight %d is not fit for its table: %+v", i, f)
		}
	}
}
