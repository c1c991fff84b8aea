package notice

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"mime/quotedprintable"
	"net"
	"net/http/httptest"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"
)

// server is an SMTP server that does as it is told.
type server struct {
	listener net.Listener
	tls      *tls.Config // nil: it does not offer STARTTLS
	// refuse answers a command of this verb with 451; hang does not answer it; lose takes
	// the message and closes the connection.
	refuse, hang string
	lose         bool
	flood        bool

	mu       sync.Mutex
	commands []string // with "TLS " before those that were encrypted
	messages []string
	joined   sync.WaitGroup
	released chan struct{}
}

func serve(t *testing.T, s *server) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.listener, s.released = l, make(chan struct{})
	s.joined.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.joined.Go(func() { s.talk(c) })
		}
	})
	t.Cleanup(func() { close(s.released); _ = l.Close(); s.joined.Wait() })
	return s
}

func (s *server) talk(c net.Conn) {
	defer func() { _ = c.Close() }()
	r, mark := bufio.NewReader(c), ""
	say := func(line string) { _, _ = io.WriteString(c, line+"\r\n") }
	if s.flood {
		for {
			if _, err := io.WriteString(c, "220-"+strings.Repeat("x", 1000)+"\r\n"); err != nil {
				return
			}
		}
	}
	say("220 here")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
		s.mu.Lock()
		s.commands = append(s.commands, mark+line)
		s.mu.Unlock()
		switch {
		case verb == s.hang:
			<-s.released
			return
		case verb == s.refuse:
			say("451 not now, not for ops@example.com with hunter2hunter2")
		case verb == "EHLO" && s.tls != nil && mark == "":
			say("250-here\r\n250 STARTTLS")
		case verb == "EHLO":
			say("250-here\r\n250 AUTH PLAIN")
		case verb == "STARTTLS":
			say("220 go")
			c = tls.Server(c, s.tls)
			r, mark = bufio.NewReader(c), "TLS "
		case verb == "AUTH":
			if s.refuse == "235" {
				say("535 I do not know \"" + line + "\"")
				return
			}
			say("235 yes")
		case verb == "DATA":
			say("354 go")
			var text strings.Builder
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				text.WriteString(line)
			}
			s.mu.Lock()
			s.messages = append(s.messages, text.String())
			s.mu.Unlock()
			if s.lose {
				return
			}
			say("250 taken")
		case verb == "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

func (s *server) got() (commands, messages []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.commands...), append([]string(nil), s.messages...)
}

func sender(t *testing.T, s *server, change func(*MailConfig)) *Mail {
	t.Helper()
	cfg := MailConfig{Server: s.listener.Addr().String(), From: "oc@example.com", Now: time.Now}
	if change != nil {
		change(&cfg)
	}
	m, err := NewMail(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

var note = Message{Delivery: "i.1.ops", To: "ops@example.com", Subject: "Größer als 1", Text: "First.\n.\nlast = " + strings.Repeat("long ", 50)}

// certificate is one for 127.0.0.1, with who trusts it.
func certificate(t *testing.T) (serves, trusts *tls.Config) {
	t.Helper()
	h := httptest.NewTLSServer(nil)
	defer h.Close()
	roots := x509.NewCertPool()
	roots.AddCert(h.Certificate())
	return &tls.Config{Certificates: h.TLS.Certificates}, &tls.Config{RootCAs: roots}
}

func TestMailIsTaken(t *testing.T) {
	s := serve(t, &server{})
	if err := sender(t, s, nil).Send(t.Context(), note); err != nil {
		t.Fatal(err)
	}
	_, messages := s.got()
	m, err := mail.ReadMessage(strings.NewReader(messages[0]))
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(quotedprintable.NewReader(m.Body))
	if got := strings.ReplaceAll(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n..", "\n."); strings.TrimSpace(got) != strings.TrimSpace(note.Text+"\ndelivery i.1.ops") {
		t.Errorf("the text became %q", text)
	}
	if m.Header.Get("Message-ID") != "<i.1.ops@example.com>" || m.Header.Get("References") != "<i.1.ops@example.com>" || m.Header.Get("To") != note.To || m.Header.Get("Subject") != "=?utf-8?q?Gr=C3=B6=C3=9Fer_als_1?=" {
		t.Errorf("headers %v", m.Header)
	}
}

func TestMailIsEncryptedWhereOffered(t *testing.T) {
	serves, trusts := certificate(t)
	s := serve(t, &server{tls: serves})
	if err := sender(t, s, func(c *MailConfig) { c.TLS, c.User, c.Password = trusts, "oc", "hunter2hunter2" }).Send(t.Context(), note); err != nil {
		t.Fatal(err)
	}
	commands, messages := s.got()
	auth := "TLS AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00oc\x00hunter2hunter2"))
	if len(messages) != 1 || !strings.Contains(strings.Join(commands, "\n"), auth) {
		t.Errorf("%q", commands)
	}
	for _, c := range commands {
		if verb, _, _ := strings.Cut(c, " "); verb == "MAIL" || verb == "AUTH" || verb == "RCPT" {
			t.Errorf("in the clear: %s", c)
		}
	}
	if err := sender(t, s, nil).Send(t.Context(), note); err == nil {
		t.Error("a certificate that nobody trusts was taken")
	}
}

func TestMailThatIsNotTaken(t *testing.T) {
	for name, c := range map[string]struct {
		server *server
		cfg    func(*MailConfig)
	}{
		"refused at the recipient": {&server{refuse: "RCPT"}, nil},
		"refused at the text":      {&server{refuse: "DATA"}, nil},
		"the answer is lost":       {&server{lose: true}, nil},
		"a server that floods":     {&server{flood: true}, nil},
		"no STARTTLS":              {&server{}, func(c *MailConfig) { c.RequireTLS = true }},
		"a password in the clear":  {&server{}, func(c *MailConfig) { c.User, c.Password = "oc", "hunter2hunter2" }},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, c.server)
			err := sender(t, s, func(m *MailConfig) {
				m.Password = "hunter2hunter2"
				if c.cfg != nil {
					c.cfg(m)
				}
			}).Send(t.Context(), note)
			if err == nil || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), note.To) {
				t.Errorf("%v", err)
			}
			commands, _ := s.got()
			if strings.Contains(strings.Join(commands, "\n"), "AUTH") {
				t.Errorf("%q", commands)
			}
		})
	}
}

func TestAServerThatHangs(t *testing.T) {
	for _, verb := range []string{"EHLO", "MAIL", "DATA"} {
		s := serve(t, &server{hang: verb})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- sender(t, s, nil).Send(ctx, note) }()
		for hung := false; !hung; {
			commands, _ := s.got()
			hung = len(commands) > 0 && strings.HasPrefix(commands[len(commands)-1], verb)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", verb, err)
		}
	}
}

// Nothing that a message is made of can be a header, a command or a second recipient.
func TestHeadersCannotBeInjected(t *testing.T) {
	s := serve(t, &server{})
	m := sender(t, s, nil)
	for name, change := range map[string]func(*Message){
		"a subject":            func(m *Message) { m.Subject = "x\r\nBcc: a@b.c" },
		"a subject, LF alone":  func(m *Message) { m.Subject = "x\nBcc: a@b.c" },
		"a delivery":           func(m *Message) { m.Delivery = "x\r\nBcc: a@b.c" },
		"no delivery":          func(m *Message) { m.Delivery = "" },
		"a recipient":          func(m *Message) { m.To = "a@b.c\r\nRCPT TO:<d@e.f>" },
		"two recipients":       func(m *Message) { m.To = "a@b.c, d@e.f" },
		"a recipient's name":   func(m *Message) { m.To = "A <a@b.c>" },
		"a space in a mailbox": func(m *Message) { m.To = `"a b"@b.c` },
		"a long text":          func(m *Message) { m.Text = strings.Repeat("x", MaxMessageBytes) },
	} {
		msg := note
		change(&msg)
		if err := m.Send(t.Context(), msg); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if commands, _ := s.got(); len(commands) > 0 {
		t.Errorf("%q", commands)
	}
	for _, cfg := range []MailConfig{{Server: "x", From: "a@b.c"}, {Server: "x:1", From: "A <a@b.c>"}} {
		if _, err := NewMail(cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
}

// A server that repeats what it refuses makes nobody see the password.
func TestAServerThatRepeatsTheCommand(t *testing.T) {
	serves, trusts := certificate(t)
	s := serve(t, &server{tls: serves, refuse: "235"})
	err := sender(t, s, func(c *MailConfig) { c.TLS, c.User, c.Password = trusts, "oc", "hunter2hunter2" }).Send(t.Context(), note)
	if err == nil || !strings.Contains(err.Error(), "535") || strings.Contains(err.Error(), base64.StdEncoding.EncodeToString([]byte("\x00oc\x00hunter2hunter2"))) {
		t.Errorf("%v", err)
	}
}
