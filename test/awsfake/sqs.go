package awsfake

import (
	"crypto/md5" //nolint:gosec // G501: SQS says the MD5 of what it has taken, and the SDK compares it
	"encoding/hex"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"originchain/test/awsfake/model"
)

// SQS is Amazon Simple Queue Service: standard queues. No clock makes a message visible
// again: Expire does.
type SQS struct {
	*service
	queues map[string]*queue
}

type queue struct {
	messages []*message
	// dead takes what was received maxReceives times; nil: nothing.
	dead        *queue
	maxReceives int
	duplicates  int
}

type message struct {
	id, body string
	sent     time.Time
	receives int
	handle   string // of the last receipt; "" while it is visible
}

func newSQS(f *Fake) *SQS {
	s := &SQS{queues: map[string]*queue{}}
	s.service = f.serve("sqs", "sqs", map[string]operation{"SendMessage": s.sendMessage, "ReceiveMessage": s.receiveMessage, "DeleteMessage": s.deleteMessage})
	return s
}

// Queue makes a queue, and returns its URL. Its name is part of it.
func (s *SQS) Queue(name string) (url string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	url = s.fake.URL + "/" + Account + "/" + name
	s.queues[url] = &queue{}
	return url
}

// DeadLetters has a queue hand what was received so often, and not deleted, to another.
func (s *SQS) DeadLetters(from, to string, maxReceives int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queues[from].dead, s.queues[from].maxReceives = s.queues[to], maxReceives
}

// Expire makes every message visible that was received and not deleted, as when its
// visibility timeout is over.
func (s *SQS) Expire(url string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.queues[url].messages {
		m.handle = ""
	}
}

// Duplicate has the next messages that are received stay visible, one each: a standard
// queue delivers at least once.
func (s *SQS) Duplicate(url string, messages int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queues[url].duplicates += messages
}

// Messages are the bodies that a queue holds, visible or not.
func (s *SQS) Messages(url string) (bodies []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.queues[url].messages {
		bodies = append(bodies, m.body)
	}
	return bodies
}

// Send puts a message, as another service would.
func (s *SQS) Send(url, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queues[url].put(body)
}

func (q *queue) put(body string) *message {
	m := &message{id: uuid.NewString(), body: body, sent: time.Now()}
	q.messages = append(q.messages, m)
	return m
}

func (s *SQS) queue(in model.Struct) (*queue, error) {
	q := s.queues[text(in, "QueueUrl")]
	if q == nil {
		return nil, refuse("QueueDoesNotExist", "The specified queue does not exist.")
	}
	return q, nil
}

// notServed says that a request wants what this fake does not do.
func (s *SQS) notServed(in model.Struct, members ...string) {
	for _, name := range members {
		if in[name] != nil {
			s.fake.t.Errorf("%s is not served here", name)
		}
	}
}

func sum(body string) string {
	hash := md5.Sum([]byte(body))
	return hex.EncodeToString(hash[:])
}

// maxMessageBytes bounds a body.
const maxMessageBytes = 256 << 10

func (s *SQS) sendMessage(in model.Struct) (model.Struct, error) {
	s.notServed(in, "DelaySeconds", "MessageAttributes", "MessageSystemAttributes", "MessageGroupId", "MessageDeduplicationId")
	q, err := s.queue(in)
	if err != nil {
		return nil, err
	}
	body := text(in, "MessageBody")
	if body == "" || len(body) > maxMessageBytes {
		return nil, refuse("InvalidParameterValue", "The message has %d bytes, and is to have 1 to %d.", len(body), maxMessageBytes)
	}
	return model.Struct{"MessageId": q.put(body).id, "MD5OfMessageBody": sum(body)}, nil
}

func (s *SQS) receiveMessage(in model.Struct) (model.Struct, error) {
	s.notServed(in, "MessageAttributeNames", "ReceiveRequestAttemptId")
	q, err := s.queue(in)
	if err != nil {
		return nil, err
	}
	most, ok := in["MaxNumberOfMessages"].(int64)
	if !ok {
		most = 1
	}
	if most < 1 || most > 10 {
		return nil, refuse("InvalidParameterValue", "MaxNumberOfMessages is to be between 1 and 10.")
	}
	wanted := slices.Concat(items(in, "AttributeNames"), items(in, "MessageSystemAttributeNames"))
	list := []any{}
	for _, m := range slices.Clone(q.messages) {
		if m.handle != "" || int64(len(list)) == most {
			continue
		}
		if q.dead != nil && m.receives >= q.maxReceives {
			q.messages = slices.DeleteFunc(q.messages, func(o *message) bool { return o == m })
			m.receives = 0
			q.dead.messages = append(q.dead.messages, m)
			continue
		}
		list = append(list, m.receive(wanted))
		if q.duplicates > 0 {
			q.duplicates--
			m.handle = ""
		}
	}
	if len(list) == 0 {
		return nil, nil
	}
	return model.Struct{"Messages": list}, nil
}

func items(in model.Struct, name string) []any {
	list, _ := in[name].([]any)
	return list
}

func (m *message) receive(wanted []any) model.Struct {
	m.receives++
	m.handle = uuid.NewString()
	out := model.Struct{"MessageId": m.id, "ReceiptHandle": m.handle, "Body": m.body, "MD5OfBody": sum(m.body)}
	attributes := model.Struct{}
	for name, value := range map[string]string{
		"ApproximateReceiveCount": strconv.Itoa(m.receives), "SentTimestamp": strconv.FormatInt(m.sent.UnixMilli(), 10),
	} {
		if slices.Contains(wanted, any(name)) || slices.Contains(wanted, any("All")) {
			attributes[name] = value
		}
	}
	if len(attributes) > 0 {
		out["Attributes"] = attributes
	}
	return out
}

// deleteMessage takes the handle of the last receipt; one of an older receipt is of no
// use any more, and is answered as if it were.
func (s *SQS) deleteMessage(in model.Struct) (model.Struct, error) {
	q, err := s.queue(in)
	if err != nil {
		return nil, err
	}
	handle := text(in, "ReceiptHandle")
	if _, err := uuid.Parse(handle); err != nil {
		return nil, refuse("ReceiptHandleIsInvalid", "The input receipt handle is invalid.")
	}
	q.messages = slices.DeleteFunc(q.messages, func(m *message) bool { return m.handle == handle })
	return nil, nil
}
