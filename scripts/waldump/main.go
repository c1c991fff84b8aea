// Command waldump prints and verifies segment files of the log.
package main

import (
	"os"

	"originchain/scripts/waldump/dump"
	"originchain/shared/table"
	"originchain/shared/telemetry"
)

func main() {
	cmd := dump.Command(telemetry.Version+" ("+telemetry.Commit+")", table.FormatKey)
	os.Exit(dump.Execute(cmd))
}
