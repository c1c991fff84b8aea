package scheduled

import (
	"encoding/json"
	"testing"
)

func TestWhoseCallItIs(t *testing.T) {
	for raw, want := range map[string]bool{
		`{"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}`: true,
		`{"source": "aws.scheduler"}`:        true,
		`{"source": "aws.events"}`:           true,
		`{"detail-type": "Scheduled Event"}`: true,
		`{"source": "aws.cloudwatch", "detail-type": "CloudWatch Alarm State Change"}`: false,
		`{}`: false,
	} {
		var call struct {
			Event
			Other bool `json:"other"`
		}
		if err := json.Unmarshal([]byte(raw), &call); err != nil || call.Scheduled() != want {
			t.Errorf("%s: %t, %v", raw, call.Scheduled(), err)
		}
	}
}
