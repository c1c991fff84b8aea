// Package instance is what an instance may be called: one form, for whoever deploys it, for
// its functions, and for programs that are given no more than its name.
package instance

import (
	"fmt"
	"regexp"
)

// NameForm is the regular expression of an instance's short name.
const NameForm = `^[a-z][a-z0-9-]{1,30}$`

// CheckName says what is wrong with a short name.
func CheckName(name string) error {
	if !regexp.MustCompile(NameForm).MatchString(name) {
		return fmt.Errorf("%q is no name of an instance: it is 2 to 31 small letters, digits and hyphens, and begins with a letter", name)
	}
	return nil
}
