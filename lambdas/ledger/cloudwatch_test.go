package ledger

import (
	"testing"
	"time"

	"originchain/shared/alarms"
)

// An alarm that is several in CloudWatch fires if one does, and is over when the last is.
func TestFromCloudWatch(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	table := alarms.Table()
	var all []Watched
	several := ""
	for i := range table {
		of := alarms.ForCloudWatch(table[i : i+1])
		for j, c := range of {
			w := Watched{Name: c.Of("acme", "acme-a"), State: "OK", Since: now.Add(-time.Hour)}
			if len(of) > 1 && several == "" {
				several = table[i].Name
			}
			if several == table[i].Name && j == 1 {
				w.State, w.Since = "ALARM", now.Add(-time.Minute)
			}
			all = append(all, w)
		}
	}
	all = append(all, Watched{Name: "globex-" + alarms.ForCloudWatch(table)[0].Name, State: "ALARM", Since: now})
	out, over := FromCloudWatch("acme", table, all, now)
	if len(out) != len(table) || several == "" {
		t.Fatalf("%d alarms of %d", len(out), len(table))
	}
	for _, s := range out {
		want, age := alarms.OK, time.Hour
		if s.Alarm == several {
			want, age = alarms.Firing, time.Minute
		}
		if s.State != want || over(s.Alarm, "") != age || s.Summary == "" || s.Severity == 0 {
			t.Errorf("%+v, for %s", s, over(s.Alarm, ""))
		}
	}
	if out, _ := FromCloudWatch("globex", table, all, now); len(out) != 1 || out[0].State != alarms.Firing {
		t.Errorf("%+v", out)
	}
	if out, _ := FromCloudWatch("acme", table[:1], []Watched{{Name: "acme-" + alarms.ForCloudWatch(table[:1])[0].Name, State: "INSUFFICIENT_DATA"}}, now); len(out) != 1 || out[0].State != alarms.NoData {
		t.Errorf("%+v", out)
	}
}

// Of an alarm that each node has, one of three is enough, and the last one ends it.
func TestAnAlarmOfEachNode(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	table, all := alarms.Table()[:1], []Watched(nil)
	for _, c := range alarms.ForCloudWatch(table) {
		if !c.PerNode {
			all = append(all, Watched{Name: c.Of("acme", ""), State: "OK", Since: now.Add(-time.Hour)})
			continue
		}
		for i, node := range []string{"acme-a", "acme-b", "acme-c"} {
			all = append(all, Watched{Name: c.Of("acme", node), State: []string{"OK", "ALARM", "OK"}[i], Since: now.Add(-time.Duration(3-i) * time.Minute)})
		}
	}
	out, over := FromCloudWatch("acme", table, all, now)
	if len(out) != 1 || out[0].State != alarms.Firing || over(out[0].Alarm, "") != time.Minute {
		t.Errorf("%+v, %s", out, over(out[0].Alarm, ""))
	}
}

// What a state machine says is said once, in the incident of the failover, or of the alarm.
func TestAWordIsSaidOnce(t *testing.T) {
	b := newBook(t)
	word := Word{Execution: "e", Step: "stuck", Text: "It does not go on."}
	for range 2 {
		if err := b.Say(t.Context(), word); err != nil {
			t.Fatal(err)
		}
	}
	b.want("severity 1, 2 updates") // the opening, and the word when it was repeated
	b.journalled("R1", "running", "node-2", false)
	b.rounds(2*time.Second, "")
	word.Run = "R1"
	for range 2 {
		if err := b.Say(t.Context(), word); err != nil {
			t.Fatal(err)
		}
	}
	b.want("severity 1, 2 updates", "severity 1, 2 updates")
}
