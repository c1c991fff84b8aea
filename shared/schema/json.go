package schema

// jsonPlan is what Compile prepares for JSON rows.
type jsonPlan struct{}

func newJSONPlan(*Table) jsonPlan { return jsonPlan{} }
