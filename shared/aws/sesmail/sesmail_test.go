package sesmail_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"originchain/shared/aws/sesmail"
	"originchain/shared/notice"
	"originchain/test/awsfake"
)

func TestSend(t *testing.T) {
	f := awsfake.Start(t)
	f.SES.Verify("status@db.example")
	m, err := sesmail.New(f.Config(), "status@db.example", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	msg := notice.Message{Delivery: "inc.1.ops", To: "ops@acme.example", Subject: "[severity 1] opened: é", Text: "A writer is silent.\n"}
	if err := m.Send(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	// An answer that was lost is not followed by a second message.
	f.SES.Next("SendEmail", awsfake.Unanswered())
	if err := m.Send(t.Context(), msg); err == nil || errors.Is(err, notice.ErrRefused) {
		t.Errorf("an answer that was lost: %v", err)
	}
	if n := len(f.SES.Calls("SendEmail")); n != 2 {
		t.Errorf("%d requests were made, want 2", n)
	}
	f.SES.Next("SendEmail", awsfake.Throttle())
	if err := m.Send(t.Context(), msg); err == nil || errors.Is(err, notice.ErrRefused) {
		t.Errorf("too busy: %v", err)
	}
	f.SES.Next("SendEmail", awsfake.Fail("MessageRejected", "Email address is not verified."))
	if err := m.Send(t.Context(), msg); err == nil || errors.Is(err, notice.ErrRefused) {
		t.Errorf("a sender who is not verified any more can be again: %v", err)
	}
	for _, wrong := range []notice.Message{
		{Delivery: "d", To: "ops@acme.example, other@acme.example", Subject: "s"}, {Delivery: "d", To: "ops@acme.example", Subject: "s\r\nBcc: x@y.example"},
		{To: "ops@acme.example", Subject: "s"}, {Delivery: "d", To: "ops@acme.example", Subject: "s", Text: strings.Repeat("x", notice.MaxMessageBytes+1)},
	} {
		if err := m.Send(t.Context(), wrong); !errors.Is(err, notice.ErrRefused) {
			t.Errorf("%+v: %v", wrong.Subject, err)
		}
	}
	sent := f.SES.Sent()
	if len(sent) != 2 || !strings.Contains(string(sent[0].Raw), notice.HeaderDelivery+": inc.1.ops\r\n") || !strings.Contains(string(sent[0].Raw), "A writer is silent.") {
		t.Errorf("%d were sent, want 2: %+v", len(sent), sent)
	}
	if _, err := sesmail.New(f.Config(), "Status <status@db.example>", time.Now); err == nil {
		t.Error("a sender with a name was taken")
	}
}

// What the service says is told without the recipient's address, however that is written.
func TestARefusalWithoutTheAddress(t *testing.T) {
	f := awsfake.Start(t)
	m, err := sesmail.New(f.Config(), "status@db.example", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	for _, as := range []string{"ops@acme.example", "OPS@acme.example"} {
		f.SES.Next("SendEmail", awsfake.Fail("MessageRejected", as+" is not verified, nor is "+as))
		err := m.Send(t.Context(), notice.Message{Delivery: "inc.1.ops", To: "ops@acme.example", Subject: "s", Text: "t"})
		if want := "SES: MessageRejected: … is not verified, nor is …"; err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
