package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	// resolvConf says which name server programs ask, ownConf what it says here: a file of the
	// private /run, mounted over it.
	resolvConf = "/etc/resolv.conf"
	ownConf    = "/run/oc-resolv.conf"
)

// Names has the programs of these namespaces, of machines with a root of their own too, ask
// a name server for names, at port 53 of a host, and nobody else. Inside goes before it.
// A program that has asked already may ask as before for some seconds.
func Names(host string) error {
	own := os.WriteFile(ownConf, []byte("nameserver "+host+"\noptions timeout:1 attempts:2\n"), 0o644)
	mounted, err := os.Stat(resolvConf)
	if own != nil || err != nil && !errors.Is(err, os.ErrNotExist) {
		return errors.Join(own, err)
	}
	if ours, err := os.Stat(ownConf); err != nil || os.SameFile(mounted, ours) {
		return err
	}
	if mounted == nil {
		if err := dangling(); err != nil {
			return err
		}
	}
	if err := syscall.Mount(ownConf, resolvConf, "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount a private %s: %w", resolvConf, err)
	}
	return nil
}

// dangling makes what resolvConf links to, where that is in the /run that is hidden here.
func dangling() error {
	to, err := os.Readlink(resolvConf)
	if err == nil && !filepath.IsAbs(to) {
		to = filepath.Join(filepath.Dir(resolvConf), to)
	}
	if err == nil && !strings.HasPrefix(filepath.Clean(to), "/run/") {
		err = fmt.Errorf("%s links to %s, which is not there", resolvConf, to)
	}
	if err != nil {
		return fmt.Errorf("these tests have names looked up and need %s: %w", resolvConf, err)
	}
	return errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, nil, 0o644))
}
