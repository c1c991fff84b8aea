package model

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/aws/smithy-go/encoding/cbor"
)

// take makes what JSON or CBOR carried into values of a shape; ok is false for what is
// not of its type, or null.
func (f *found) take(path string, shape *Shape, raw any) (value any, ok bool) {
	if shape == nil {
		f.add(path, "the model has no such shape")
		return nil, false
	}
	switch shape.Type {
	case "structure", "map":
		return f.takeStruct(path, shape, raw)
	case "list":
		items, is := raw.([]any)
		if !is {
			break
		}
		list := make([]any, 0, len(items))
		for i, item := range items {
			at := path + "[" + strconv.Itoa(i) + "]"
			if v, ok := f.take(at, f.service.shape(shape.Member), item); ok {
				list = append(list, v)
			} else if item == nil {
				f.add(at, "null in a list")
			}
		}
		return list, true
	default:
		if value, ok = scalar(shape.Type, raw); ok {
			return value, true
		}
	}
	if raw != nil {
		f.add(path, "%s is a %s, and this is a %T: %v", shape.Name, shape.Type, raw, raw)
	}
	return nil, false
}

func (f *found) takeStruct(path string, shape *Shape, raw any) (any, bool) {
	members, ok := raw.(Struct)
	if !ok {
		if raw != nil {
			f.add(path, "%s is a %s, and this is a %T", shape.Name, shape.Type, raw)
		}
		return nil, false
	}
	out := Struct{}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		of, at := f.service.shape(shape.Value), path+"["+strconv.Quote(name)+"]"
		if shape.Type == "structure" {
			at = path + "." + name
			member, known := shape.Members[name]
			if !known {
				f.add(at, "%s has no such member", shape.Name)
				continue
			}
			of = f.service.Shapes[member.Shape]
		}
		if v, ok := f.take(at, of, members[name]); ok {
			out[name] = v
		}
	}
	return out, true
}

// scalar takes what JSON (json.Number, text for blobs) or CBOR carried.
func scalar(kind string, raw any) (any, bool) {
	switch v := raw.(type) {
	case string:
		switch kind {
		case "string", "character":
			return v, true
		case "blob":
			b, err := base64.StdEncoding.DecodeString(v)
			return b, err == nil
		}
	case json.Number:
		switch kind {
		case "integer", "long":
			n, err := v.Int64()
			return n, err == nil && (kind == "long" || n == int64(int32(n)))
		case "float", "double":
			n, err := v.Float64()
			return n, err == nil
		case "timestamp":
			n, err := v.Float64()
			return time.UnixMilli(int64(math.Round(n * 1000))).UTC(), err == nil
		}
	case int64:
		return v, kind == "long" || kind == "integer" && v == int64(int32(v))
	case float64:
		return v, kind == "double" || kind == "float"
	case bool:
		return v, kind == "boolean"
	case []byte:
		return v, kind == "blob"
	case time.Time:
		return v, kind == "timestamp"
	}
	return nil, false
}

func decodeJSON(body []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var raw any
	if err := d.Decode(&raw); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more behind the JSON")
	}
	return raw, nil
}

// jsonOf is a value as JSON has it.
func jsonOf(value any) any {
	switch v := value.(type) {
	case Struct:
		out := make(Struct, len(v))
		for name, member := range v {
			out[name] = jsonOf(member)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = jsonOf(item)
		}
		return out
	case time.Time:
		return json.Number(strconv.FormatFloat(float64(v.UnixMilli())/1000, 'f', 3, 64))
	case []byte:
		return base64.StdEncoding.EncodeToString(v)
	}
	return value
}

func decodeCBOR(body []byte) (any, error) {
	v, err := cbor.Decode(body)
	if err != nil {
		return nil, err
	}
	return fromCBOR(v)
}

func fromCBOR(value cbor.Value) (any, error) {
	switch v := value.(type) {
	case cbor.Map:
		out := make(Struct, len(v))
		for name, member := range v {
			taken, err := fromCBOR(member)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			out[name] = taken
		}
		return out, nil
	case cbor.List:
		out := make([]any, len(v))
		for i, item := range v {
			taken, err := fromCBOR(item)
			if err != nil {
				return nil, fmt.Errorf("%d: %w", i, err)
			}
			out[i] = taken
		}
		return out, nil
	case *cbor.Tag:
		seconds, err := cbor.AsTime(v)
		return seconds, err
	case cbor.Uint:
		if v > math.MaxInt64 {
			return nil, fmt.Errorf("the integer %d is too large", v)
		}
		return int64(v), nil
	case cbor.NegInt:
		if v == 0 || v > math.MaxInt64 {
			return nil, errors.New("a negative integer is too large")
		}
		return -int64(v), nil
	case cbor.String:
		return string(v), nil
	case cbor.Slice:
		return []byte(v), nil
	case cbor.Bool:
		return bool(v), nil
	case cbor.Float32:
		return float64(v), nil
	case cbor.Float64:
		return float64(v), nil
	case *cbor.Nil:
		return nil, nil
	}
	return nil, fmt.Errorf("%T is nothing that the protocol has", value)
}

// toCBOR is a value that was checked as CBOR has it.
func toCBOR(value any) cbor.Value {
	switch v := value.(type) {
	case Struct:
		out := make(cbor.Map, len(v))
		for name, member := range v {
			out[name] = toCBOR(member)
		}
		return out
	case []any:
		out := make(cbor.List, len(v))
		for i, item := range v {
			out[i] = toCBOR(item)
		}
		return out
	case string:
		return cbor.String(v)
	case int64:
		if v < 0 {
			return cbor.NegInt(uint64(-v))
		}
		return cbor.Uint(uint64(v))
	case float64:
		return cbor.Float64(v)
	case bool:
		return cbor.Bool(v)
	case []byte:
		return cbor.Slice(v)
	case time.Time:
		return &cbor.Tag{ID: 1, Value: cbor.Float64(float64(v.UnixMilli()) / 1000)}
	}
	return &cbor.Nil{}
}
