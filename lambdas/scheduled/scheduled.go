// Package scheduled tells the calls of a schedule from others: a rule of EventBridge sends
// an event of its own making, and a schedule of its scheduler says who it is.
package scheduled

// Event is what a call says of its sender, to be embedded in what a function reads.
type Event struct {
	Source     string `json:"source"`
	DetailType string `json:"detail-type"`
}

// Scheduled says whether a schedule has sent it.
func (e Event) Scheduled() bool {
	return e.DetailType == "Scheduled Event" || e.Source == "aws.scheduler" || e.Source == "aws.events"
}
