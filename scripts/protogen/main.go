// Command protogen makes the Go code of every proto file in the tree, next to
// it. The compiler is a Go module and the plugins are pinned in tools.mod, so
// the code depends on nothing that is installed: protoc was refused because its
// version would be that of the machine.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	written, err := write(ctx, ".")
	for _, file := range written {
		fmt.Println(file)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
