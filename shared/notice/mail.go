package notice

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/smtp"
	"strings"
	"time"
	"unicode"
)

// Mail sends messages through an SMTP server.
type Mail struct{ cfg MailConfig }

// MailConfig is what a Mail is made with.
type MailConfig struct {
	// Server is host:port.
	Server string
	// From is a bare address.
	From string
	// User and Password authenticate, only over TLS; "" for not at all.
	User, Password string
	// RequireTLS refuses a server that does not offer STARTTLS.
	RequireTLS bool
	// TLS is what STARTTLS is made with; nil for the system's roots.
	TLS *tls.Config
	Now func() time.Time
}

// NewMail checks the configuration.
func NewMail(cfg MailConfig) (*Mail, error) {
	host, _, err := net.SplitHostPort(cfg.Server)
	if err != nil || host == "" {
		return nil, fmt.Errorf("the mail server %q is not host:port", cfg.Server)
	}
	if err := CheckAddress(cfg.From); err != nil {
		return nil, fmt.Errorf("the sender's address: %w", err)
	}
	return &Mail{cfg}, nil
}

// CheckAddress says whether a subscriber may have the address: a bare one, without a
// name, a comment or a line break.
func CheckAddress(address string) error {
	parsed, err := mail.ParseAddress(address)
	if err != nil || parsed.Address != address || parsed.Name != "" || len(address) > 254 || strings.ContainsFunc(address, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return fmt.Errorf("%w: give one bare e-mail address in ASCII", ErrRefused)
	}
	return nil
}

// Message is an e-mail.
type Message struct {
	// Delivery is in the headers and in the last line, so that a repeat can be told.
	Delivery string
	// To is a bare address.
	To string
	// Subject is one line.
	Subject, Text string
}

// Compose writes a message as it goes over the wire. Nothing of what it was given can
// make a header of its own; a message that would is ErrRefused.
func Compose(from string, now time.Time, msg Message) ([]byte, error) {
	if err := CheckAddress(msg.To); err != nil {
		return nil, err
	}
	if strings.ContainsFunc(msg.Subject+msg.Delivery, unicode.IsControl) || msg.Delivery == "" || strings.ContainsAny(msg.Delivery, "<>@ ") {
		return nil, fmt.Errorf("%w: a line break or control character in a header", ErrRefused)
	}
	if len(msg.Text)+len(msg.Subject) > MaxMessageBytes {
		return nil, fmt.Errorf("%w: a message of %d bytes, at most %d", ErrRefused, len(msg.Text), MaxMessageBytes)
	}
	_, domain, _ := strings.Cut(from, "@")
	id := "<" + msg.Delivery + "@" + domain + ">"
	var b bytes.Buffer
	for _, h := range [][2]string{
		{"From", from}, {"To", msg.To}, {"Subject", mime.QEncoding.Encode("utf-8", msg.Subject)},
		{"Date", now.UTC().Format(time.RFC1123Z)}, {"Message-ID", id},
		// A service that puts its own Message-ID into each attempt leaves this one: repeats are one thread.
		{"References", id}, {HeaderDelivery, msg.Delivery}, {"Auto-Submitted", "auto-generated"}, {"MIME-Version", "1.0"},
		{"Content-Type", "text/plain; charset=utf-8"}, {"Content-Transfer-Encoding", "quoted-printable"},
	} {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	b.WriteString("\r\n")
	q := quotedprintable.NewWriter(&b)
	if _, err := io.WriteString(q, msg.Text+"\ndelivery "+msg.Delivery+"\n"); err != nil {
		return nil, err
	}
	if err := q.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Send makes one attempt. nil: the server has taken the message.
func (m *Mail) Send(ctx context.Context, msg Message) error {
	text, err := Compose(m.cfg.From, m.cfg.Now(), msg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, AttemptTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", m.cfg.Server)
	if err != nil {
		return fmt.Errorf("the mail server does not answer: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // ends every call under way
	defer stop()
	defer func() { _ = conn.Close() }()
	if err := m.converse(&bounded{Conn: conn, left: maxAnswerBytes}, msg.To, text); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return fmt.Errorf("the mail server did not take the message: %w", m.discreet(err, msg.To))
	}
	return nil
}

// converse has the message taken. After the server has said so nothing can fail.
func (m *Mail) converse(conn net.Conn, to string, text []byte) error {
	host, _, _ := net.SplitHostPort(m.cfg.Server)
	c, err := smtp.NewClient(conn, host)
	if err != nil {
		return err
	}
	if offered, _ := c.Extension("STARTTLS"); offered {
		cfg := &tls.Config{MinVersion: tls.VersionTLS12}
		if m.cfg.TLS != nil {
			cfg = m.cfg.TLS.Clone()
		}
		cfg.ServerName = host
		if err := c.StartTLS(cfg); err != nil {
			return err
		}
	} else if m.cfg.RequireTLS || m.cfg.User != "" {
		return errors.New("it does not offer STARTTLS, and nothing is sent in the clear")
	}
	if m.cfg.User != "" {
		if err := c.Auth(smtp.PlainAuth("", m.cfg.User, m.cfg.Password, host)); err != nil {
			return err
		}
	}
	if err := c.Mail(m.cfg.From); err != nil {
		return err
	}
	if err := c.Rcpt(to); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	_ = c.Quit()
	return nil
}

// discreet takes the password, as it is and as it was sent, and the recipient out of what
// a server said: some repeat the command that they refuse.
func (m *Mail) discreet(err error, to string) error {
	s := err.Error()
	sent := base64.StdEncoding.EncodeToString([]byte("\x00" + m.cfg.User + "\x00" + m.cfg.Password))
	for _, secret := range []string{m.cfg.Password, sent, to} {
		if secret != "" {
			s = strings.ReplaceAll(s, secret, "…")
		}
	}
	if s != err.Error() {
		return errors.New(s)
	}
	return err
}

// bounded is a connection of which only so much is read: a server could talk for ever.
type bounded struct {
	net.Conn
	left int
}

// Read implements net.Conn.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := b.Conn.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
