package stack

import (
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"

	"originchain/infra/config"
)

// standInsFile marks a directory whose programs only stand for others: templates are tested
// as they are whatever the programs are. Nothing that is built makes it.
const standInsFile = "STAND-INS"

// program looks at a file of a directory of programs: it is there, and it is an executable
// for Linux and an architecture, unless it is in a directory of stand-ins.
func program(dir, path string, arch config.Architecture) error {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not there", path)
	}
	if standIns(dir) {
		return nil
	}
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("%s is no executable for Linux: %w", path, err)
	}
	// What is looked at below has been read.
	if err := f.Close(); err != nil {
		return err
	}
	machine := map[config.Architecture]elf.Machine{config.ARM64: elf.EM_AARCH64, config.AMD64: elf.EM_X86_64}[arch]
	linux := f.OSABI == elf.ELFOSABI_NONE || f.OSABI == elf.ELFOSABI_LINUX
	if !linux || f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN || f.Machine != machine {
		return fmt.Errorf("%s is no executable for Linux on %s (%s, %s, %s)", path, arch, f.OSABI, f.Type, f.Machine)
	}
	return nil
}

// runByAnybody looks at the modes of a function's file and directory: Lambda unpacks them
// with these, and runs the file as a user of its own.
func runByAnybody(dir, path string) error {
	if standIns(dir) {
		return nil
	}
	for _, p := range []string{filepath.Dir(path), path} {
		info, err := os.Stat(p)
		if err != nil {
			return err
		}
		if mode := info.Mode().Perm(); mode&0o555 != 0o555 {
			return fmt.Errorf("%s has mode %04o: Lambda could not run it, which asks for 0755", p, mode)
		}
	}
	return nil
}

func standIns(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, standInsFile))
	return err == nil
}
