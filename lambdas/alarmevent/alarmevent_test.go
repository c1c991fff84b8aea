package alarmevent

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func recorded(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "silence", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// By whatever way a change is told, it is the same one.
func TestEveryWayTellsTheSame(t *testing.T) {
	bridge, sns := recorded(t, "eventbridge-alarm.json"), recorded(t, "sns-alarm.json")
	var w struct {
		Records []struct {
			Sns struct{ MessageId, Message string }
		}
	}
	if err := json.Unmarshal(sns, &w); err != nil {
		t.Fatal(err)
	}
	queued := func(message string) []byte {
		b, err := json.Marshal(map[string]string{"Type": "Notification", "MessageId": "m", "Message": message})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	want := "arn:aws:cloudwatch:eu-central-1:123456789012:alarm:acme-oc-controlplane-instance-silent@20260301T120000.314Z"
	for name, raw := range map[string][]byte{
		"EventBridge": bridge, "SNS": sns, "SNS in a queue": queued(w.Records[0].Sns.Message), "EventBridge by SNS in a queue": queued(string(bridge)),
	} {
		e, err := Parse(raw)
		if err != nil || e.Key() != want || e.State != Alarm || e.Account != "123456789012" || e.Region != "eu-central-1" ||
			e.Alarm != "acme-oc-controlplane-instance-silent" || !e.At.Equal(time.Date(2026, 3, 1, 12, 0, 0, 314e6, time.UTC)) || e.ID == "" || e.Reason == "" {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
	}
}

func TestWhatIsNoEventOfAnAlarm(t *testing.T) {
	good := string(recorded(t, "eventbridge-alarm.json"))
	for name, raw := range map[string]string{
		"nothing":           "",
		"no JSON":           "ALARM",
		"a list":            "[]",
		"null":              "null",
		"empty":             "{}",
		"a schedule":        string(recorded(t, "schedule.json")),
		"no state":          string(recorded(t, "malformed.json")),
		"another source":    strings.Replace(good, `"aws.cloudwatch"`, `"my.cloudwatch"`, 1),
		"another type":      strings.Replace(good, "Alarm State Change", "Alarm Configuration Change", 1),
		"no time":           strings.Replace(good, "2026-03-01T12:00:00.314+0000", "noon", 1),
		"another state":     strings.Replace(good, `"ALARM"`, `"BAD"`, 1),
		"no resource":       strings.Replace(good, `["arn:aws:cloudwatch:eu-central-1:123456789012:alarm:acme-oc-controlplane-instance-silent"]`, "[]", 1),
		"another resource":  strings.Replace(good, "arn:aws:cloudwatch", "arn:aws:sqs", 1),
		"another account":   strings.Replace(good, `"account": "123456789012"`, `"account": "999999999999"`, 1),
		"another name":      strings.Replace(good, `"alarmName": "acme`, `"alarmName": "globex`, 1),
		"two records":       `{"Records":[{"EventSource":"aws:sns"},{"EventSource":"aws:sns"}]}`,
		"a record of S3":    `{"Records":[{"EventSource":"aws:s3"}]}`,
		"a message of none": `{"Type":"Notification","Message":"hello"}`,
		"too long":          `{"x":"` + strings.Repeat("x", MaxBytes) + `"}`,
	} {
		if e, err := Parse([]byte(raw)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"eventbridge-alarm.json", "sns-alarm.json", "schedule.json", "malformed.json"} {
		f.Add(recorded(f, name))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := Parse(raw)
		if err == nil && (e.Alarm == "" || e.At.IsZero() || !strings.HasSuffix(e.ARN, ":alarm:"+e.Alarm)) || err != nil && !errors.Is(err, ErrMalformed) {
			t.Errorf("%+v, %v", e, err)
		}
	})
}
