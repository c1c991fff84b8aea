package config

import (
	"encoding/json"
	"regexp"
	"strings"
)

// defaultBranch is what GitHub calls a repository's first one.
const defaultBranch = "main"

// Forms of what is in the subject of a token of GitHub. None has room for a wildcard, a
// variable of a policy, or the colon that parts a subject.
var (
	repositoryForm  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100}$`)
	branchForm      = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,99}$`)
	environmentForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)
	mailForm        = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,62}@([a-z0-9.-]{3,190})$`)
)

// readPipeline is nil where none is asked for.
func readPipeline(f *fields) *Pipeline {
	var text json.RawMessage
	if !value(f, "pipeline", "an object in braces", &text) {
		return nil
	}
	in := object(text, "pipeline.", f.faults)
	if in == nil {
		return nil
	}
	p := &Pipeline{
		Repository: in.needed("repository", "name the repository on GitHub, as owner/name"), Branch: in.text("branch", defaultBranch),
		Environment: in.text("environment", ""), ProviderExists: in.truth("provider_exists"),
	}
	for _, c := range []struct {
		key, got, want string
		form           *regexp.Regexp
	}{
		{"repository", p.Repository, "owner/name of a repository on GitHub", repositoryForm},
		{"branch", p.Branch, "name of a branch", branchForm},
		{"environment", p.Environment, "name of an environment of letters, digits, dots, hyphens and underscores", environmentForm},
	} {
		if c.got != "" && !c.form.MatchString(c.got) {
			in.fault(c.key, "%q is no %s; a wildcard would let others deploy", c.got, c.want)
		}
	}
	if p.Branch == "" {
		in.fault("branch", "it is empty; leave it out for %s", defaultBranch)
	}
	in.unknown()
	return p
}

// checkMail notes a sender that is no address.
func (c *Config) checkMail(f *fields) {
	if c.MailFrom == "" {
		return // noted
	}
	m := mailForm.FindStringSubmatch(c.MailFrom)
	if m == nil || strings.Contains(c.MailFrom, "..") {
		f.fault("mail_from", "%q is not one bare e-mail address, such as status@example.com", c.MailFrom)
		return
	}
	f.domain("mail_from", m[1])
}
