package writer

import (
	"net/http"

	"originchain/shared/httpx"
)

// Bounds of bodies that need no 8 MiB.
const (
	manifestBodyBytes    = 1 << 20
	sqlBodyBytes         = 8 << 20
	diagnosticsBodyBytes = 256 << 10
	adminBodyBytes       = 16 << 10
)

// Routes is the list of routes without what serves them, for the test that
// compares it with docs/openapi.yaml. Its handlers must not be called.
func Routes() []httpx.Route { return routes(&Shell{metrics: &metrics{}}, nil) }

// routes is the one list of what a writer serves. The public rows are w's and
// answer while s does not exist yet.
func routes(w *Shell, s *service) []httpx.Route {
	const t = "/v1/tenants/{t}"
	return []httpx.Route{
		{Method: http.MethodGet, Pattern: "/health", Name: "health", Scope: httpx.Public, Summary: "Whether the process is up and its log can be read and written", Handler: w.getHealth},
		{Method: http.MethodGet, Pattern: "/ready", Name: "ready", Scope: httpx.Public, Summary: "Whether the node serves, check by check", Handler: w.getReady},
		{Method: http.MethodGet, Pattern: "/metrics", Name: "metrics", Scope: httpx.Public, Summary: "Metrics in the Prometheus text format", Handler: w.metrics.page()},

		{Method: http.MethodGet, Pattern: t + "/usage", Name: "getUsage", Scope: httpx.Tenant, Summary: "What the tenant stores and runs, from exact counters", Handler: httpx.Reply(http.StatusOK, s.getUsage)},
		{Method: http.MethodPost, Pattern: t + "/diagnostics", Name: "postDiagnostics", Scope: httpx.Tenant, Summary: "Take in what a client library observed", MaxBody: diagnosticsBodyBytes, Handler: httpx.Typed(http.StatusAccepted, s.postDiagnostics)},
		{Method: http.MethodPost, Pattern: "/v1/queries/{id}/cancel", Name: "cancelQuery", Scope: httpx.Tenant, Summary: "End a running query of the caller's tenant", MaxBody: adminBodyBytes, Handler: httpx.Reply(http.StatusOK, s.cancelQuery)},

		{Method: http.MethodGet, Pattern: "/v1/topology", Name: "getTopology", Scope: httpx.Tenant, Summary: "Where the writer and the followers are", Handler: httpx.Reply(http.StatusOK, s.getTopology)},

		{Method: http.MethodPost, Pattern: t + "/schemas", Name: "registerSchema", Scope: httpx.Tenant, Summary: "Register a table by its manifest", MaxBody: manifestBodyBytes, Handler: s.registerSchema},
		{Method: http.MethodGet, Pattern: t + "/schemas", Name: "listSchemas", Scope: httpx.Tenant, Summary: "The names of the tenant's tables", Handler: httpx.Reply(http.StatusOK, s.listSchemas)},
		{Method: http.MethodGet, Pattern: t + "/schemas/{schema}", Name: "getSchema", Scope: httpx.Tenant, Summary: "One table's manifest", Handler: s.getSchema},

		{Method: http.MethodPost, Pattern: t + "/rows/{schema}", Name: "postRow", Scope: httpx.Tenant, Summary: "Write one row, new or in place of another", Handler: s.postRow},
		{Method: http.MethodPost, Pattern: t + "/rows/{schema}/_batch", Name: "postBatch", Scope: httpx.Tenant, Summary: "Write a stream of rows, a chunk of them per commit", Streaming: true, Handler: s.postBatch},
		{Method: http.MethodPut, Pattern: t + "/rows/{schema}/{pk}", Name: "putRow", Scope: httpx.Tenant, Summary: "Write the row with this primary key", Handler: s.putRow},
		{Method: http.MethodGet, Pattern: t + "/rows/{schema}/{pk}", Name: "getRow", Scope: httpx.Tenant, Summary: "Read the row with this primary key", Handler: s.getRow},
		{Method: http.MethodDelete, Pattern: t + "/rows/{schema}/{pk}", Name: "deleteRow", Scope: httpx.Tenant, Summary: "Remove the row with this primary key", Handler: s.deleteRow},

		{Method: http.MethodPost, Pattern: t + "/sql", Name: "postSQL", Scope: httpx.Tenant, Summary: "Run one SQL statement", MaxBody: sqlBodyBytes, Handler: s.postSQL()},
		{Method: http.MethodPost, Pattern: t + "/tx/begin", Name: "beginTx", Scope: httpx.Tenant, Summary: "Begin a transaction", MaxBody: adminBodyBytes, Handler: s.beginTx},
		{Method: http.MethodGet, Pattern: t + "/tx/{tx}", Name: "getTx", Scope: httpx.Tenant, Summary: "The state of a transaction", Handler: s.getTx},
		{Method: http.MethodPost, Pattern: t + "/tx/{tx}/commit", Name: "commitTx", Scope: httpx.Tenant, Summary: "Commit a transaction as one frame", MaxBody: adminBodyBytes, Handler: s.commitTx},
		{Method: http.MethodPost, Pattern: t + "/tx/{tx}/rollback", Name: "rollbackTx", Scope: httpx.Tenant, Summary: "Discard a transaction", MaxBody: adminBodyBytes, Handler: s.rollbackTx},

		{Method: http.MethodGet, Pattern: "/v1/admin/tenants", Name: "listTenants", Scope: httpx.Admin, Summary: "Every tenant of the instance", Handler: httpx.Reply(http.StatusOK, s.listTenants)},
		{Method: http.MethodPost, Pattern: "/v1/admin/tenants", Name: "createTenant", Scope: httpx.Admin, Summary: "Create a tenant and its first token, shown this once", Audit: "tenant.create", MaxBody: adminBodyBytes, Handler: httpx.Typed(http.StatusCreated, s.createTenant)},
		{Method: http.MethodGet, Pattern: "/v1/admin/tenants/{t}/tokens", Name: "listTokens", Scope: httpx.Admin, Summary: "A tenant's tokens, without their secrets", Handler: httpx.Reply(http.StatusOK, s.listTokens)},
		{Method: http.MethodPost, Pattern: "/v1/admin/tenants/{t}/tokens", Name: "mintToken", Scope: httpx.Admin, Summary: "Mint a token, shown this once", Audit: "token.mint", MaxBody: adminBodyBytes, Handler: httpx.Typed(http.StatusCreated, s.mintToken)},
		{Method: http.MethodDelete, Pattern: "/v1/admin/tenants/{t}/tokens/{id}", Name: "revokeToken", Scope: httpx.Admin, Summary: "Revoke a token, at once", Audit: "token.revoke", Handler: httpx.Reply(http.StatusOK, s.revokeToken)},
		{Method: http.MethodGet, Pattern: "/v1/admin/tenants/{t}/config", Name: "getTenantConfig", Scope: httpx.Admin, Summary: "How a tenant is replicated", Handler: httpx.Reply(http.StatusOK, s.getConfig)},
		{Method: http.MethodPost, Pattern: "/v1/admin/tenants/{t}/config", Name: "setTenantConfig", Scope: httpx.Admin, Summary: "Set how a tenant is replicated", Audit: "tenant.config", MaxBody: adminBodyBytes, Handler: httpx.Typed(http.StatusOK, s.setConfig)},
		{Method: http.MethodGet, Pattern: "/v1/admin/replication", Name: "getReplication", Scope: httpx.Admin, Summary: "Role, epoch and positions of this node", Handler: httpx.Reply(http.StatusOK, s.getReplication)},
		{Method: http.MethodPost, Pattern: "/v1/admin/promote", Name: "promote", Scope: httpx.Admin, Summary: "Make this node the writer of an epoch that the record gives to it", Audit: "node.promote", MaxBody: adminBodyBytes, Handler: httpx.Typed(http.StatusAccepted, s.promote)},
		{Method: http.MethodPost, Pattern: "/v1/admin/handover", Name: "handover", Scope: httpx.Admin, Summary: "Give the writer's role to a named follower that is in sync", Audit: "node.handover", MaxBody: adminBodyBytes, Handler: httpx.Typed(http.StatusOK, s.handover)},
		{Method: http.MethodGet, Pattern: "/v1/admin/archive", Name: "getArchive", Scope: httpx.Admin, Summary: "The newest objects of the archive, and what it lacks", Handler: httpx.Reply(http.StatusOK, s.getArchive)},
		{Method: http.MethodPost, Pattern: "/v1/admin/archive/tail/pause", Name: "pauseTail", Scope: httpx.Admin, Summary: "Stop shipping the open segment", Audit: "archive.tail.pause", MaxBody: adminBodyBytes, Handler: httpx.Reply(http.StatusOK, s.pauseTail)},
		{Method: http.MethodPost, Pattern: "/v1/admin/archive/tail/resume", Name: "resumeTail", Scope: httpx.Admin, Summary: "Ship the open segment again", Audit: "archive.tail.resume", MaxBody: adminBodyBytes, Handler: httpx.Reply(http.StatusOK, s.resumeTail)},
		{Method: http.MethodPost, Pattern: "/v1/admin/checkpoint", Name: "shipCheckpoint", Scope: httpx.Admin, Summary: "Ship a checkpoint of the state, and wait until it is in the archive", Audit: "archive.checkpoint", MaxBody: adminBodyBytes, Handler: httpx.Reply(http.StatusOK, s.shipCheckpoint)},
	}
}
