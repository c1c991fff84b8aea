// Command waldump prints and verifies segment files of the log.
package main

import (
	"os"
	"strconv"

	"originchain/scripts/waldump/dump"
	"originchain/shared/telemetry"
)

func main() {
	cmd := dump.Command(telemetry.Version+" ("+telemetry.Commit+")", strconv.Quote[string])
	os.Exit(dump.Execute(cmd))
}
