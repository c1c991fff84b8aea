package main

import (
	"context"
	"encoding/json"
	"fmt"

	"originchain/scripts/call"
	"originchain/scripts/demo/data"
	"originchain/shared/fault"
	"originchain/shared/progress"
)

// rowsPerCall is how many rows one request carries: enough to be quick, few
// enough that the bar, which counts rows the server has made durable, moves.
const rowsPerCall = 1000

// load registers the tables and sends the rows that are not in them yet.
func (d *demo) load(ctx context.Context) error {
	airports, err := data.Airports()
	if err != nil {
		return err
	}
	flights, err := data.Flights()
	if err != nil {
		return err
	}
	// Airports first: every flight refers to two of them.
	if err := d.register(ctx, data.AirportsID, data.AirportsManifest()); err != nil {
		return err
	}
	if err := d.register(ctx, data.FlightsID, data.FlightsManifest()); err != nil {
		return err
	}
	p := progress.New(d.out)
	defer p.Close()
	if err := fill(ctx, d, p, data.AirportsID, "iata", airports, func(a data.Airport) string { return a.IATA }); err != nil {
		return err
	}
	return fill(ctx, d, p, data.FlightsID, "id", flights, func(f data.Flight) string { return fmt.Sprint(f.ID) })
}

func (d *demo) register(ctx context.Context, id string, manifest []byte) error {
	err := d.client.Register(ctx, d.at.Tenant, manifest)
	switch call.Code(err) {
	case string(fault.Conflict), string(fault.AlreadyExists), string(fault.Unsupported):
		return fmt.Errorf("the table %s of an earlier demo has another shape: %w\nstart afresh: remove %s and run the demo again", id, err, d.dir)
	}
	return err
}

// fill sends the rows of a table whose keys are not there yet.
func fill[T any](ctx context.Context, d *demo, p *progress.Display, table, keyColumn string, rows []T, key func(T) string) error {
	present, err := d.keys(ctx, table, keyColumn)
	if err != nil {
		return err
	}
	var missing []T
	for _, r := range rows {
		if !present[key(r)] {
			missing = append(missing, r)
		}
	}
	if len(missing) == 0 {
		p.Note("%-14s %s rows are there already", table, progress.Thousands(int64(len(rows))))
		return nil
	}
	task := p.Start(table, "rows durable", int64(len(missing)))
	defer task.Abort() // unless it is done
	for len(missing) > 0 {
		n := min(rowsPerCall, len(missing))
		lines, err := call.NDJSON(missing[:n])
		if err != nil {
			return err
		}
		if _, err := d.client.Batch(ctx, d.at.Tenant, table, lines); err != nil {
			return fmt.Errorf("load %s: %w; run the demo again, it goes on where this one ended", table, err)
		}
		task.Add(int64(n))
		missing = missing[n:]
	}
	task.Done()
	return nil
}

// keys is the set of primary keys of a table, as text.
func (d *demo) keys(ctx context.Context, table, column string) (map[string]bool, error) {
	out, err := d.client.Select(ctx, d.at.Tenant, "SELECT "+column+" FROM "+table)
	if err != nil {
		return nil, fmt.Errorf("see what is in %s: %w", table, err)
	}
	keys := make(map[string]bool, len(out.Rows))
	for _, raw := range out.Rows {
		row, err := decodeRow(raw)
		if err != nil {
			return nil, err
		}
		keys[row[column].text()] = true
	}
	return keys, nil
}

// cell is one value of an answer.
type cell struct{ json.RawMessage }

// text is the value as a person reads it: strings without quotes, NULL as "-".
func (c cell) text() string {
	var s string
	if json.Unmarshal(c.RawMessage, &s) == nil && string(c.RawMessage) != "null" {
		return s
	}
	if len(c.RawMessage) == 0 || string(c.RawMessage) == "null" {
		return "-"
	}
	return string(c.RawMessage)
}

// number reports whether the value is a JSON number.
func (c cell) number() bool {
	return len(c.RawMessage) > 0 && (c.RawMessage[0] == '-' || c.RawMessage[0] >= '0' && c.RawMessage[0] <= '9')
}

func decodeRow(raw json.RawMessage) (map[string]cell, error) {
	var row map[string]cell
	if err := json.Unmarshal(raw, &row); err != nil {
		return nil, fmt.Errorf("a row of the answer: %w", err)
	}
	return row, nil
}
