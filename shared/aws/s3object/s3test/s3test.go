// Package s3test is an S3 for tests: a real gateway that keeps its objects in a
// directory, with versions, as a child of the test process. It has a process of its
// own because it changes the working directory of the one it is in.
package s3test

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

// What the gateway knows. Main puts it into the environment, where the SDK and child
// processes find it.
const (
	AccessKey = "test-access-key"
	SecretKey = "test-secret-key-that-no-error-may-repeat"
	Region    = "eu-central-1"
)

const (
	// childVariable says, in the environment of a child, that it is the gateway, and
	// in which directory; endpointVariable, in that of tests, where the gateway is.
	childVariable    = "ORIGINCHAIN_S3TEST_DIR"
	endpointVariable = "ORIGINCHAIN_S3TEST_ENDPOINT"

	// startTries bounds how often another port is tried because one was taken
	// between being chosen and being used.
	startTries = 5
	// readyTimeout bounds the wait for the gateway, readyRetry is how often it is asked.
	readyTimeout = 30 * time.Second
	readyRetry   = 5 * time.Millisecond
)

// Main is the TestMain of a package whose tests use S3:
//
//	func TestMain(m *testing.M) { s3test.Main(m) }
//
// It starts the gateway, runs the tests and ends the gateway.
func Main(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		if err := serve(dir); err != nil {
			panic(err)
		}
		return
	}
	if err := run(m); err != nil {
		panic(err)
	}
}

func run(m *testing.M) (err error) {
	dir, err := os.MkdirTemp("", "s3test")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	endpoint, stop, err := start(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	for name, value := range map[string]string{
		endpointVariable: endpoint, "AWS_ACCESS_KEY_ID": AccessKey, "AWS_SECRET_ACCESS_KEY": SecretKey, "AWS_SESSION_TOKEN": "",
		"AWS_REGION": Region, "AWS_PROFILE": "", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	m.Run() // keeps the exit code for when TestMain returns
	return nil
}

// start runs the gateway as a child, which ends when its input does: with stop, or
// with this process, however that ends.
func start(dir string) (endpoint string, stop func() error, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	log, err := os.Create(filepath.Join(dir, "gateway.log"))
	if err != nil {
		return "", nil, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	child := exec.Command(self, "-test.run=^$")
	child.Env = append(os.Environ(), childVariable+"="+dir)
	child.Stderr = log
	in, err := child.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	out, err := child.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := child.Start(); err != nil {
		return "", nil, err
	}
	gone := func(err error) error {
		said, _ := os.ReadFile(log.Name()) // err says enough
		return fmt.Errorf("the S3 gateway has ended: %w\n%s", err, said)
	}
	endpoint, err = said(out)
	if err != nil {
		return "", nil, gone(errors.Join(err, child.Wait()))
	}
	ended := make(chan error, 1)
	go func() {
		_, _ = io.Copy(io.Discard, out)
		ended <- child.Wait()
	}()
	return endpoint, func() error {
		select {
		case err := <-ended:
			return gone(err)
		default:
		}
		// Not by closing its input: it would wait for connections that nobody closes.
		err := errors.Join(child.Process.Kill(), in.Close())
		_ = <-ended // says that it was killed
		return err
	}, nil
}

// said returns where the child says that the gateway is.
func said(out io.Reader) (endpoint string, err error) {
	for lines := bufio.NewReader(out); ; {
		line, err := lines.ReadString('\n')
		if endpoint, ok := strings.CutPrefix(line, endpointVariable+"="); ok {
			return strings.TrimSpace(endpoint), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// serve is the child.
func serve(dir string) error {
	objects, versions := filepath.Join(dir, "objects"), filepath.Join(dir, "versions")
	if err := errors.Join(os.Mkdir(objects, 0o700), os.Mkdir(versions, 0o700)); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	storer := meta.XattrMeta{}
	if err := storer.Test(dir); err != nil {
		return fmt.Errorf("%s is on a file system without extended attributes, which the S3 gateway needs; set TMPDIR to one that has them: %w", dir, err)
	}
	backend, err := posix.New(objects, storer, posix.PosixOpts{VersioningDir: versions, CopyObjectThreshold: 5 << 30})
	if err != nil {
		return err
	}
	for range startTries {
		if err = gateway(ctx, backend); err == nil {
			return nil
		}
	}
	return err
}

func gateway(ctx context.Context, backend *posix.Posix) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	// Only this gateway answers there, whoever else may have taken the port.
	health := "/" + rand.Text()
	done := make(chan error, 1)
	go func() {
		done <- embedgw.RunVersityGW(ctx, backend, &embedgw.Config{
			RootUserAccess: AccessKey, RootUserSecret: SecretKey, Region: Region, Ports: []string{address}, HealthPath: health,
			MaxConnections: 10_000, MaxRequests: 10_000, MultipartMaxParts: 10_000, Quiet: true, KeepAlive: true,
		})
	}()
	timeout := time.NewTimer(readyTimeout)
	defer timeout.Stop()
	tick := time.NewTicker(readyRetry)
	defer tick.Stop()
	for {
		if answers("http://" + address + health) {
			_, err := fmt.Fprintf(os.Stdout, "\n%s=http://%s\n", endpointVariable, address)
			return errors.Join(err, <-done)
		}
		select {
		case err := <-done:
			return err
		case <-timeout.C:
			return errors.New("the S3 gateway does not answer")
		case <-tick.C:
		}
	}
}

func answers(url string) bool {
	answer, err := http.Get(url)
	if err != nil {
		return false
	}
	defer func() { _ = answer.Body.Close() }()
	return answer.StatusCode == http.StatusOK
}

// Bucket is a bucket of one test.
type Bucket struct {
	Name     string
	Endpoint string
	// Client is for what a test does behind the back of what it tests.
	Client *s3.Client
}

// NewBucket makes an empty bucket. It keeps versions if it is versioned.
func NewBucket(t testing.TB, versioned bool) Bucket {
	t.Helper()
	endpoint := os.Getenv(endpointVariable)
	if endpoint == "" {
		t.Fatal("the package's TestMain must be s3test.Main")
	}
	b := Bucket{Name: "b" + strings.ToLower(rand.Text()), Endpoint: endpoint, Client: client(endpoint)}
	if _, err := b.Client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &b.Name}); err != nil {
		t.Fatal(err)
	}
	if versioned {
		_, err := b.Client.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{Bucket: &b.Name,
			VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled}})
		if err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// URL is what opens a store in the bucket.
func (b Bucket) URL(prefix string) string {
	query := url.Values{"endpoint": {b.Endpoint}, "region": {Region}}
	return (&url.URL{Scheme: "s3", Host: b.Name, Path: "/" + prefix, RawQuery: query.Encode()}).String()
}

func client(endpoint string) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: aws.String(endpoint), UsePathStyle: true, Region: Region, HTTPClient: awshttp.NewBuildableClient(),
		Credentials: credentials.NewStaticCredentialsProvider(AccessKey, SecretKey, ""),
	})
}
