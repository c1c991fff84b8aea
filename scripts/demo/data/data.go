// Package data is the real data of demo, tests and benchmarks: airports of the
// United States and 20,000 flights of early 2001. ATTRIBUTION.md says where it
// comes from. It is part of the program, so that the demo runs from anywhere.
package data

import (
	"bytes"
	_ "embed"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"strconv"
)

// Schema ids of the two tables.
const (
	AirportsID = "demo.airports"
	FlightsID  = "demo.flights"
)

// The manifests to register, in this order: flights refer to airports.
var (
	//go:embed airports.toml
	airportsManifest []byte
	//go:embed flights.toml
	flightsManifest []byte
	//go:embed airports.csv
	airportsCSV []byte
	//go:embed flights-20k.json
	flightsJSON []byte
)

// AirportsManifest returns the manifest of demo.airports.
func AirportsManifest() []byte { return bytes.Clone(airportsManifest) }

// FlightsManifest returns the manifest of demo.flights.
func FlightsManifest() []byte { return bytes.Clone(flightsManifest) }

// Airport is one row of demo.airports. City and State are nil where the source
// says "NA".
type Airport struct {
	IATA      string  `json:"iata"`
	Name      string  `json:"name"`
	City      *string `json:"city"`
	State     *string `json:"state"`
	Country   string  `json:"country"`
	Latitude  float64 `json:"latitude"`
	Longitude float64 `json:"longitude"`
}

// Flight is one row of demo.flights. ID is its line number, from 1: flights
// have no key of their own.
type Flight struct {
	ID   int64  `json:"id"`
	Date string `json:"date"` // "2001/01/01 00:47"
	// Delay is in minutes, negative when early; Distance is in miles.
	Delay       int64  `json:"delay"`
	Distance    int64  `json:"distance"`
	Origin      string `json:"origin"`
	Destination string `json:"destination"`
}

const airportColumns = 7

// Airports returns the 3,376 airports in the order of the file.
func Airports() ([]Airport, error) {
	r := csv.NewReader(bytes.NewReader(airportsCSV))
	r.FieldsPerRecord = airportColumns
	records, err := r.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("airports.csv: %w", err)
	}
	airports := make([]Airport, 0, len(records))
	for i, rec := range records[1:] { // the first names the columns
		a, err := airport(rec)
		if err != nil {
			return nil, fmt.Errorf("airports.csv line %d: %w", i+2, err)
		}
		airports = append(airports, a)
	}
	return airports, nil
}

func airport(rec []string) (Airport, error) {
	lat, err := strconv.ParseFloat(rec[5], 64)
	if err != nil {
		return Airport{}, fmt.Errorf("latitude: %w", err)
	}
	long, err := strconv.ParseFloat(rec[6], 64)
	if err != nil {
		return Airport{}, fmt.Errorf("longitude: %w", err)
	}
	return Airport{
		IATA: rec[0], Name: rec[1], City: known(rec[2]), State: known(rec[3]),
		Country: rec[4], Latitude: lat, Longitude: long,
	}, nil
}

func known(s string) *string {
	if s == "NA" {
		return nil
	}
	return &s
}

// Flights returns the 20,000 flights in the order of the file, which is by date.
func Flights() ([]Flight, error) {
	var flights []Flight
	if err := json.Unmarshal(flightsJSON, &flights); err != nil {
		return nil, fmt.Errorf("flights-20k.json: %w", err)
	}
	for i := range flights {
		flights[i].ID = int64(i) + 1
	}
	return flights, nil
}
