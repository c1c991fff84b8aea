package awsfake

// Behaviour is how one request is met. The zero one is to be answered as it should.
type Behaviour struct {
	refuse           error
	lost, unanswered bool
	wait             <-chan struct{}
}

// Well answers as it should: what comes before a behaviour in a row.
func Well() Behaviour { return Behaviour{} }

// Fail answers with an error of the service, and does nothing.
func Fail(code, message string) Behaviour { return Behaviour{refuse: refuse(code, "%s", message)} }

// Throttle answers that there were too many requests, as JSON services have it; those of
// XML say "Throttling".
func Throttle() Behaviour { return Fail("ThrottlingException", "Rate exceeded") }

// Lost is a request that never arrives: the connection ends, and nothing is done.
func Lost() Behaviour { return Behaviour{lost: true} }

// Unanswered does what is asked, and the answer never arrives.
func Unanswered() Behaviour { return Behaviour{unanswered: true} }

// Held waits for the channel before anything is done.
func Held(until <-chan struct{}) Behaviour { return Behaviour{wait: until} }

// Times is a row of a behaviour.
func Times(n int, b Behaviour) []Behaviour {
	row := make([]Behaviour, n)
	for i := range row {
		row[i] = b
	}
	return row
}
