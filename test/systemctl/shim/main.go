// Command shim is systemctl, and the service manager behind it, for tests.
package main

import (
	"os"

	"originchain/test/systemctl"
)

func main() { os.Exit(systemctl.Main(os.Args[1:], os.Stdout, os.Stderr)) }
