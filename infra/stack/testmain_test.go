package stack_test

import (
	"os"
	"testing"

	"github.com/aws/jsii-runtime-go"
)

// TestMain ends the one process of the CDK that all tests share.
func TestMain(m *testing.M) {
	code := m.Run()
	jsii.Close()
	os.Exit(code)
}
