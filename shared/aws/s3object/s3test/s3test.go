// Package s3test is an S3 for tests: the gateway of package gateway as a child of the
// test process.
package s3test

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"originchain/shared/aws/s3object/s3test/gateway"
)

// What the gateway knows. Main puts it into the environment, where the SDK and child
// processes find it.
const (
	AccessKey = gateway.AccessKey
	SecretKey = gateway.SecretKey
	Region    = gateway.Region
)

// childVariable says, in the environment of a child, that it is the gateway, and in
// which directory; endpointVariable, in that of tests, where the gateway is.
const (
	childVariable    = "ORIGINCHAIN_S3TEST_DIR"
	endpointVariable = "ORIGINCHAIN_S3TEST_ENDPOINT"
)

// Child says that this process is the gateway: a TestMain that does something before Main
// leaves that out.
func Child() bool { return os.Getenv(childVariable) != "" }

// Main is the TestMain of a package whose tests use S3:
//
//	func TestMain(m *testing.M) { s3test.Main(m) }
//
// It starts the gateway, runs the tests and ends the gateway.
func Main(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		if err := gateway.Serve(dir); err != nil {
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
	self, err := os.Executable()
	if err != nil {
		return err
	}
	child := exec.Command(self, "-test.run=^$")
	child.Env = append(os.Environ(), childVariable+"="+dir)
	endpoint, stop, err := gateway.Start(child, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	for _, kv := range append(gateway.Environment(), endpointVariable+"="+endpoint) {
		name, value, _ := strings.Cut(kv, "=")
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	m.Run() // keeps the exit code for when TestMain returns
	return nil
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
	name, err := gateway.MakeBucket(t.Context(), endpoint, versioned)
	if err != nil {
		t.Fatal(err)
	}
	return Bucket{Name: name, Endpoint: endpoint, Client: gateway.Client(endpoint)}
}

// URL is what opens a store in the bucket.
func (b Bucket) URL(prefix string) string { return gateway.URL(b.Endpoint, b.Name, prefix) }

// Version is one version of an object.
type Version struct {
	Key    string
	Newest bool
	Body   []byte
}

// Versions reads every version in the bucket, and counts the marks of deletions.
func (b Bucket) Versions(t testing.TB) (out []Version, marks int) {
	t.Helper()
	pages := s3.NewListObjectVersionsPaginator(b.Client, &s3.ListObjectVersionsInput{Bucket: &b.Name})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		marks += len(page.DeleteMarkers)
		for _, v := range page.Versions {
			r, err := b.Client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &b.Name, Key: v.Key, VersionId: v.VersionId})
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(r.Body)
			if err := errors.Join(err, r.Body.Close()); err != nil {
				t.Fatal(err)
			}
			out = append(out, Version{*v.Key, v.IsLatest != nil && *v.IsLatest, body})
		}
	}
	return out, marks
}
