package notice

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"syscall"
	"time"
)

// Webhooks sends messages over HTTP.
type Webhooks struct {
	client *http.Client
	now    func() time.Time
}

// WebhookConfig is what a Webhooks is made with.
type WebhookConfig struct {
	// Allow are the ranges that are reached although they are not public, such as
	// 127.0.0.0/8.
	Allow []netip.Prefix
	Now   func() time.Time
	// Transport changes what requests are made with, such as the roots that are trusted;
	// nil for nothing.
	Transport func(*http.Transport)
}

// NewWebhooks makes a sender. It uses no proxy, whatever the environment says: a proxy
// would resolve names where nothing checks them.
func NewWebhooks(cfg WebhookConfig) *Webhooks {
	transport := func(guard func(network, address string, _ syscall.RawConn) error) *http.Transport {
		dialer := &net.Dialer{Timeout: AttemptTimeout, Control: guard}
		t := &http.Transport{DialContext: dialer.DialContext, TLSHandshakeTimeout: AttemptTimeout, DisableKeepAlives: true, MaxResponseHeaderBytes: maxAnswerBytes}
		if cfg.Transport != nil {
			cfg.Transport(t)
		}
		return t
	}
	by := byScheme{
		plain:  transport(func(_, address string, _ syscall.RawConn) error { return reachable(address, cfg.Allow, true) }),
		secure: transport(func(_, address string, _ syscall.RawConn) error { return reachable(address, cfg.Allow, false) }),
	}
	return &Webhooks{now: cfg.Now, client: &http.Client{
		Transport: by, Timeout: AttemptTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// byScheme sends plain HTTP to loopback alone.
type byScheme struct{ plain, secure http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b byScheme) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == "http" {
		return b.plain.RoundTrip(r)
	}
	return b.secure.RoundTrip(r)
}

// CheckURL says whether a webhook may have the URL. Where it leads is checked at every
// attempt.
func CheckURL(raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "":
		return fmt.Errorf("%w: the webhook's URL cannot be read", ErrRefused)
	case u.User != nil:
		return fmt.Errorf("%w: the webhook's URL has a password in it; requests are signed instead", ErrRefused)
	case u.Fragment != "":
		return fmt.Errorf("%w: the webhook's URL has a fragment, which is not sent", ErrRefused)
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && loopbackName(u.Hostname()):
		return nil
	}
	return fmt.Errorf("%w: a webhook's URL is https, or http to a loopback address", ErrRefused)
}

func loopbackName(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// reachable says whether a connection may be made to the address, which is resolved.
func reachable(address string, allow []netip.Prefix, plain bool) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %s is no address", ErrRefused, address)
	}
	ip := at.Addr().Unmap().WithZone("")
	if plain && !ip.IsLoopback() {
		return fmt.Errorf("%w: plain HTTP to an address that is not loopback", ErrRefused)
	}
	for _, p := range allow {
		if p.Contains(ip) {
			return nil
		}
	}
	if !public(ip) {
		return fmt.Errorf("%w: the webhook leads to an address that is not public; allow its range by name if that is meant", ErrRefused)
	}
	return nil
}

// public says whether an address is one of the internet's, and not of this machine, its
// networks, its cloud's metadata, or a way around to them.
func public(ip netip.Addr) bool {
	if !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return false
	}
	for _, s := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "fec0::/10", "::/96",
	} {
		if netip.MustParsePrefix(s).Contains(ip) {
			return false
		}
	}
	return true
}

// Send makes one attempt. nil: the receiver has answered with 2xx.
func (w *Webhooks) Send(ctx context.Context, target string, secret []byte, delivery string, body []byte) error {
	if err := CheckURL(target); err != nil {
		return err
	}
	if len(body) > MaxMessageBytes || len(secret) < MinSecretBytes {
		return fmt.Errorf("%w: a message of %d bytes (at most %d) under a secret of %d (at least %d)", ErrRefused, len(body), MaxMessageBytes, len(secret), MinSecretBytes)
	}
	ctx, cancel := context.WithTimeout(ctx, AttemptTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: the webhook's URL cannot be read", ErrRefused)
	}
	stamp := strconv.FormatInt(w.now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "originchain-notify")
	req.Header.Set(HeaderDelivery, delivery)
	req.Header.Set(HeaderTimestamp, stamp)
	req.Header.Set(HeaderSignature, Signature(secret, stamp, body))
	resp, err := w.client.Do(req)
	if err != nil {
		return fmt.Errorf("the webhook was not answered: %w", withoutURL(err))
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswerBytes) // the status is the answer
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("the webhook answered %d", resp.StatusCode)
	}
	return nil
}

// withoutURL takes off what names the URL, and what names the host: both may be secret.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var dns *net.DNSError
	var op *net.OpError
	var cert *tls.CertificateVerificationError
	switch {
	case errors.As(err, &cert): // it names the host, and those that the certificate is for
		return errors.New("its certificate is not that of its name, or of nobody who is trusted, or out of date")
	case errors.As(err, &dns):
		return errors.New("its name cannot be resolved")
	case errors.Is(err, context.DeadlineExceeded):
		return context.DeadlineExceeded
	case errors.As(err, &op): // it names the address, its cause does not
		return fmt.Errorf("%s: %w", op.Op, op.Err)
	}
	return err
}
