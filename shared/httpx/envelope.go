package httpx

import "reflect"

// Envelope reads requests of one type for handlers that need the bytes of the
// body as well, such as those that hash it. Typed is for all others.
type Envelope[In any] struct{ shape shape }

// NewEnvelope makes the Envelope of a type, under the rules of Typed.
func NewEnvelope[In any]() Envelope[In] {
	return Envelope[In]{shape: shapeOf(reflect.TypeFor[In]())}
}

// Decode reads a whole body. Its faults are those of Typed.
func (e Envelope[In]) Decode(body []byte) (in In, err error) {
	if len(body) == 0 && len(e.shape.required) == 0 {
		return in, nil
	}
	err = decodeEnvelope(body, &in, e.shape)
	return in, err // in one return statement, Go may copy in before it is filled
}
