// Command infra is the CDK app: cdk.json runs it to synthesize the deployment.
package main

import (
	"os"

	"originchain/infra/stack"
)

func main() {
	os.Exit(stack.Main(os.Stderr))
}
