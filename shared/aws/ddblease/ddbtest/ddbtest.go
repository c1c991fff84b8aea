// Package ddbtest is a DynamoDB for tests: the emulator that test/emulators pins, as
// a process of its own.
package ddbtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"golang.org/x/sys/unix"

	"originchain/shared/aws/session"
)

// Region and Credentials are those of the emulator, which checks neither.
const Region = "eu-central-1"

// Credentials sign requests to it.
func Credentials() aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider("test", "test", "")
}

// Start runs the emulator for the time of a test and returns its URL.
func Start(t testing.TB) (endpoint string) {
	t.Helper()
	program, err := install()
	if err != nil {
		t.Fatal(err)
	}
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "--host", "127.0.0.1", "--port", port, "--createTableMs", "0", "--deleteTableMs", "0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
	})
	// Its first line says that it listens.
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.Contains(line, "listening") {
		t.Fatalf("the emulator says %q: %v", line, err)
	}
	return "http://127.0.0.1:" + port
}

// Table makes a table whose key is a text attribute, and another one that sorts below it
// if that is named.
func Table(t testing.TB, endpoint, name, keyAttribute string, sortAttribute ...string) {
	t.Helper()
	client := dynamodb.New(dynamodb.Options{Region: Region, BaseEndpoint: &endpoint, Credentials: Credentials(), APIOptions: session.APIOptions()})
	in := &dynamodb.CreateTableInput{TableName: &name, BillingMode: types.BillingModePayPerRequest}
	kind := types.KeyTypeHash
	for _, attribute := range append([]string{keyAttribute}, sortAttribute...) {
		in.AttributeDefinitions = append(in.AttributeDefinitions, types.AttributeDefinition{AttributeName: &attribute, AttributeType: types.ScalarAttributeTypeS})
		in.KeySchema = append(in.KeySchema, types.KeySchemaElement{AttributeName: &attribute, KeyType: kind})
		kind = types.KeyTypeRange
	}
	if _, err := client.CreateTable(context.Background(), in); err != nil {
		t.Fatal(err)
	}
}

// install installs what test/emulators pins, once, and returns the emulator's path.
func install() (string, error) {
	_, self, _, _ := runtime.Caller(0)
	dir := filepath.Join(filepath.Dir(self), "..", "..", "..", "..", "test", "emulators")
	program := filepath.Join(dir, "node_modules", ".bin", "dynalite")
	lock, err := os.OpenFile(filepath.Join(dir, "package-lock.json"), os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = lock.Close() }() // and with it the lock
	// Several test processes may come here at once.
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", err
	}
	if _, err := os.Stat(program); err == nil {
		return program, nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	cmd := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci in test/emulators (it needs Node 20 or newer): %w: %s", err, out)
	}
	return program, nil
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, errors.Join(err, l.Close())
}
