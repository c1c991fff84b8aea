package plane

import (
	"net/http"

	"originchain/shared/telemetry"
)

// measured serves /metrics beside another handler.
func measured(metrics *telemetry.Metrics, rest http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics.Handler())
	mux.Handle("/", rest)
	return mux
}
