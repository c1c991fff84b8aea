package awsfake

import (
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"originchain/test/awsfake/model"
)

// SES is Amazon Simple Email Service: mail that is sent.
type SES struct {
	*service
	verified []string
	sent     []Mail
}

// Mail is one message. Raw is that of one which was sent as MIME; then the rest is empty.
type Mail struct {
	ID, From            string
	To                  []string
	Subject, Text, HTML string
	Raw                 []byte
}

func newSES(f *Fake) *SES {
	s := &SES{}
	s.service = f.serve("sesv2", "ses", map[string]operation{"SendEmail": s.sendEmail})
	return s
}

// Verify lets an address, or all of a domain, send.
func (s *SES) Verify(identity string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.verified = append(s.verified, strings.ToLower(identity))
}

// Sent is all mail that was taken, in its order.
func (s *SES) Sent() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.sent)
}

func (s *SES) sendEmail(in model.Struct) (model.Struct, error) {
	m := Mail{ID: uuid.NewString(), From: text(in, "FromEmailAddress")}
	address := strings.ToLower(m.From)
	if i := strings.LastIndexByte(address, '<'); i >= 0 {
		address = strings.TrimSuffix(address[i+1:], ">")
	}
	_, domain, _ := strings.Cut(address, "@")
	if !slices.Contains(s.verified, address) && !slices.Contains(s.verified, domain) {
		return nil, refuse("MessageRejected", "Email address is not verified. The following identities failed the check in region %s: %s", strings.ToUpper(Region), address)
	}
	to, _ := in["Destination"].(model.Struct)
	for _, kind := range []string{"ToAddresses", "CcAddresses", "BccAddresses"} {
		list, _ := to[kind].([]any)
		for _, a := range list {
			m.To = append(m.To, a.(string))
		}
	}
	if len(m.To) == 0 {
		return nil, refuse("BadRequestException", "At least one recipient must be specified.")
	}
	content, _ := in["Content"].(model.Struct)
	switch {
	case content["Raw"] != nil:
		m.Raw, _ = content["Raw"].(model.Struct)["Data"].([]byte)
		m.Raw = own(m.Raw, m.ID)
	case content["Simple"] != nil:
		simple := content["Simple"].(model.Struct)
		m.Subject = text(simple["Subject"].(model.Struct), "Data")
		body, _ := simple["Body"].(model.Struct)
		plain, _ := body["Text"].(model.Struct)
		html, _ := body["Html"].(model.Struct)
		m.Text, m.HTML = text(plain, "Data"), text(html, "Data")
	default:
		return nil, refuse("BadRequestException", "This fake takes simple and raw content.")
	}
	s.sent = append(s.sent, m)
	return model.Struct{"MessageId": m.ID}, nil
}

// own puts the service's Message-ID and Date in place of those that a message has.
func own(raw []byte, id string) []byte {
	head, body, _ := strings.Cut(string(raw), "\r\n\r\n")
	lines := slices.DeleteFunc(strings.Split(head, "\r\n"), func(l string) bool {
		name, _, _ := strings.Cut(strings.ToLower(l), ":")
		return name == "message-id" || name == "date"
	})
	lines = append(lines, "Message-ID: <"+id+"@"+Region+".amazonses.com>", "Date: "+time.Now().UTC().Format(time.RFC1123Z))
	return []byte(strings.Join(lines, "\r\n") + "\r\n\r\n" + body)
}

// SNS is Amazon Simple Notification Service: what is published.
type SNS struct {
	*service
	topics    map[string]bool
	published []Notice
}

// Notice is what was published to a topic.
type Notice struct{ Topic, Subject, Message string }

// maxNoticeBytes bounds a message.
const maxNoticeBytes = 256 << 10

func newSNS(f *Fake) *SNS {
	s := &SNS{topics: map[string]bool{}}
	s.service = f.serve("sns", "sns", map[string]operation{"Publish": s.publish})
	return s
}

// Topic makes a topic, and returns its ARN.
func (s *SNS) Topic(name string) (arn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	arn = "arn:aws:sns:" + Region + ":" + Account + ":" + name
	s.topics[arn] = true
	return arn
}

// Published is all that was published, in its order.
func (s *SNS) Published() []Notice {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.published)
}

func (s *SNS) publish(in model.Struct) (model.Struct, error) {
	n := Notice{Topic: text(in, "TopicArn"), Subject: text(in, "Subject"), Message: text(in, "Message")}
	switch {
	case !s.topics[n.Topic]:
		return nil, refuse("NotFound", "Topic does not exist")
	case n.Message == "" || len(n.Message) > maxNoticeBytes:
		return nil, refuse("InvalidParameter", "Invalid parameter: Message")
	case len(n.Subject) > 100 || strings.ContainsAny(n.Subject, "\r\n"):
		return nil, refuse("InvalidParameter", "Invalid parameter: Subject")
	}
	s.published = append(s.published, n)
	return model.Struct{"MessageId": uuid.NewString()}, nil
}
