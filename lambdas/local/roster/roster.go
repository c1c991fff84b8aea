// Package roster is who is told of the incidents of an instance on one machine: the file
// notify.toml in its directory, and the files of secrets that it names. A file that holds
// a secret, or a webhook's URL, which often is one, is refused while others may read it.
package roster

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"originchain/shared/alarms"
	"originchain/shared/incident"
	"originchain/shared/notice"
	"originchain/shared/secretfile"
)

// FileName is the file's name in the directory of an instance.
const FileName = "notify.toml"

// maxFileBytes bounds the file and each secret.
const maxFileBytes = 256 << 10

// Roster is what the file says, checked.
type Roster struct {
	Subscribers incident.Fixed
	Webhooks    *notice.Webhooks
	// Mail is nil where no mail server is named.
	Mail *notice.Mail
}

// document is the file.
type document struct {
	// WebhookAllow are ranges of addresses that are reached although they are not public.
	WebhookAllow []string     `toml:"webhook_allow"`
	SMTP         *smtp        `toml:"smtp"`
	Subscribers  []subscriber `toml:"subscriber"`
}

type smtp struct {
	// Server is host:port. Off loopback it must offer STARTTLS.
	Server       string `toml:"server"`
	From         string `toml:"from"`
	User         string `toml:"user"`
	PasswordFile string `toml:"password_file"`
}

type subscriber struct {
	ID      string `toml:"id"`
	Email   string `toml:"email"`
	Webhook string `toml:"webhook"`
	// SecretFile has what webhooks are signed with.
	SecretFile string `toml:"secret_file"`
	// UpTo is the mildest severity that it is told of; 1 unless set.
	UpTo int `toml:"up_to"`
}

// Read reads the roster of an instance's directory. Without the file nobody is told.
func Read(dir string) (Roster, error) {
	path := filepath.Join(dir, FileName)
	text, err := secretfile.Read(path, maxFileBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return Roster{Webhooks: notice.NewWebhooks(notice.WebhookConfig{Now: time.Now})}, nil
	} else if err != nil {
		return Roster{}, err
	}
	var doc document
	if err := toml.NewDecoder(strings.NewReader(text)).DisallowUnknownFields().Decode(&doc); err != nil {
		return Roster{}, fmt.Errorf("%s: %w; docs/RUNBOOK.md, Incidents, has an example", path, lineOf(err))
	}
	r := reading{dir: dir}
	out := r.roster(&doc)
	if err := errors.Join(r.faults...); err != nil {
		return Roster{}, fmt.Errorf("%s: %w", path, err)
	}
	return out, nil
}

// lineOf keeps of a decoder's error where it is, and not what stands there: a URL or an
// address.
func lineOf(err error) error {
	var strict *toml.StrictMissingError
	var decode *toml.DecodeError
	switch {
	case errors.As(err, &strict) && len(strict.Errors) > 0:
		return fmt.Errorf("there is no setting %q", strings.Join(strict.Errors[0].Key(), "."))
	case errors.As(err, &decode):
		line, column := decode.Position()
		return fmt.Errorf("line %d, column %d cannot be read as TOML", line, column)
	}
	return errors.New("it cannot be read as TOML")
}

// reading gathers every fault of a file.
type reading struct {
	dir    string
	faults []error
}

func (r *reading) fault(format string, args ...any) {
	r.faults = append(r.faults, fmt.Errorf(format, args...))
}

// secret is the one line of a file, whose path may be relative to the directory.
func (r *reading) secret(what, path string) string {
	if path == "" {
		return ""
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(r.dir, path)
	}
	text, err := secretfile.Line(path, maxFileBytes)
	if err != nil {
		r.fault("%s: %w", what, err)
	}
	return text
}

func (r *reading) roster(doc *document) Roster {
	var allow []netip.Prefix
	for _, text := range doc.WebhookAllow {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			r.fault("webhook_allow: %q is no range of addresses, such as 127.0.0.0/8", text)
		}
		allow = append(allow, p)
	}
	out := Roster{Webhooks: notice.NewWebhooks(notice.WebhookConfig{Allow: allow, Now: time.Now})}
	if doc.SMTP != nil {
		out.Mail = r.mail(doc.SMTP)
	}
	if len(doc.Subscribers) > incident.MaxSubscribers {
		r.fault("%d subscribers, at most %d are told", len(doc.Subscribers), incident.MaxSubscribers)
	}
	seen := map[string]bool{}
	for n := range doc.Subscribers {
		s := r.subscriber(&doc.Subscribers[n])
		switch {
		case seen[s.ID]:
			r.fault("subscriber %q is there twice", s.ID)
		case s.Email != "" && doc.SMTP == nil:
			r.fault("subscriber %q has an e-mail address, and no mail server is named: give [smtp]", s.ID)
		}
		seen[s.ID] = true
		out.Subscribers = append(out.Subscribers, s)
	}
	return out
}

func (r *reading) subscriber(s *subscriber) incident.Subscriber {
	out := incident.Subscriber{
		ID: s.ID, Email: s.Email, Webhook: incident.Secret(s.Webhook), UpTo: alarms.Severity(s.UpTo),
		Secret: incident.Secret(r.secret(fmt.Sprintf("subscriber %q, secret_file", s.ID), s.SecretFile)),
	}
	if s.UpTo == 0 {
		out.UpTo = alarms.TenantDown
	}
	if err := out.Check(notice.CheckAddress, notice.CheckURL); err != nil {
		r.fault("subscriber %q: %w", s.ID, err)
	}
	return out
}

func (r *reading) mail(s *smtp) *notice.Mail {
	password := r.secret("smtp, password_file", s.PasswordFile)
	if (s.User == "") != (s.PasswordFile == "") {
		r.fault("smtp: user and password_file go together")
	}
	m, err := notice.NewMail(notice.MailConfig{Server: s.Server, From: s.From, User: s.User, Password: password, RequireTLS: !onLoopback(s.Server), Now: time.Now})
	if err != nil {
		r.fault("smtp: %w", err)
	}
	return m
}

func onLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
