package session

import (
	"context"
	"fmt"
	"io"

	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// APIOptions are those of every client of the SDK; what Load returns has them.
func APIOptions() []func(*middleware.Stack) error {
	return []func(*middleware.Stack) error{plainBodies}
}

// plainBodies has the bodies of requests be readers, and nothing more.
//
// The SDK closes a request's body as soon as the answer begins, beside net/http, which may
// be about to look whether the body has an end. A body that is an io.WriterTo too says
// io.EOF then as an error (smithy-go 1.28.9), for which net/http cuts the connection in the
// middle of the answer: a request that was carried out looks like one that is lost.
func plainBodies(stack *middleware.Stack) error {
	return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("PlainBodies", func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
		if r, ok := in.Request.(*smithyhttp.Request); ok {
			if _, writes := r.GetStream().(io.WriterTo); writes {
				plain, err := r.SetStream(struct{ io.Reader }{r.GetStream()})
				if err != nil {
					return middleware.DeserializeOutput{}, middleware.Metadata{}, fmt.Errorf("send the body of a request: %w", err)
				}
				in.Request = plain
			}
		}
		return next.HandleDeserialize(ctx, in)
	}), middleware.After)
}
