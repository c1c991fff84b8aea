package systemctl

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// enable has the targets that the unit names want it, whenever they are reached.
func (u *unit) enable() error {
	if u.loaded == nil {
		return fmt.Errorf("Failed to enable unit: %s is not loaded: %w", u.name, errors.Join(u.failure, os.ErrNotExist))
	}
	by := strings.Fields(u.loaded.file.Value("Install", "WantedBy"))
	if len(by) == 0 {
		return fmt.Errorf("The unit file of %s has no installation config", u.name)
	}
	for _, target := range by {
		if !slices.Contains(targets(), target) {
			return fmt.Errorf("%s: WantedBy=%s is not known here", u.name, target)
		}
		dir := filepath.Join(u.m.etc, target+".wants")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := os.Symlink(u.loaded.fragment, filepath.Join(dir, u.name)); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// targets are those that each start of a machine reaches.
func targets() []string { return []string{"timers.target", "multi-user.target"} }

// wanted are the units that are enabled.
func (m *Manager) wanted() (out []string) {
	for _, target := range targets() {
		links, _ := filepath.Glob(filepath.Join(m.etc, target+".wants", "*")) // its pattern is sound
		for _, l := range links {
			out = append(out, filepath.Base(l))
		}
	}
	return out
}

// elapse is a timer's time.
func (u *unit) elapse() {
	_ = u.m.unit(strings.TrimSuffix(u.name, ".timer") + ".service").start() // its state says what became of it
	if u.loaded != nil && u.loaded.again > 0 {
		u.after(u.loaded.again, u.elapse)
	}
}
