// Package gateway is an S3 on one machine: a real gateway that keeps its objects in a
// directory, with versions. It has a process of its own because it changes the working
// directory of the one it is in. Tests have it by package s3test.
package gateway

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
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"

	"originchain/shared/aws/session"
)

// What the gateway knows.
const (
	AccessKey = "test-access-key"
	SecretKey = "test-secret-key-that-no-error-may-repeat"
	Region    = "eu-central-1"
)

const (
	// saidPrefix comes before the endpoint in what the child prints.
	saidPrefix = "S3_GATEWAY_ENDPOINT="

	// startTries bounds how often another port is tried because one was taken
	// between being chosen and being used.
	startTries = 5
	// readyTimeout bounds the wait for the gateway, readyRetry is how often it is asked.
	readyTimeout = 30 * time.Second
	readyRetry   = 5 * time.Millisecond
)

// Environment is what the SDK of a client finds, as K=V.
func Environment() []string {
	return []string{
		"AWS_ACCESS_KEY_ID=" + AccessKey, "AWS_SECRET_ACCESS_KEY=" + SecretKey, "AWS_SESSION_TOKEN=",
		"AWS_REGION=" + Region, "AWS_PROFILE=", "AWS_EC2_METADATA_DISABLED=true",
	}
}

// Start runs a child that calls Serve, which ends when its input does: with stop, or
// with this process, however that ends. What it complains about goes to a file in dir.
func Start(child *exec.Cmd, dir string) (endpoint string, stop func() error, err error) {
	log, err := os.Create(filepath.Join(dir, "gateway.log"))
	if err != nil {
		return "", nil, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	child.Stderr = log
	if _, err = child.StdinPipe(); err != nil {
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
		defer close(ended)
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
		// Wait closes it, as soon as the child has ended.
		err := child.Process.Kill()
		for range ended { // it says that it was killed
		}
		return err
	}, nil
}

// said returns where the child says that the gateway is.
func said(out io.Reader) (endpoint string, err error) {
	for lines := bufio.NewReader(out); ; {
		line, err := lines.ReadString('\n')
		if endpoint, ok := strings.CutPrefix(line, saidPrefix); ok {
			return strings.TrimSpace(endpoint), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// Serve is the child: a gateway on a directory, until the input ends.
func Serve(dir string) error {
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
		return fmt.Errorf("%s is on a file system without extended attributes, which the S3 gateway needs; choose a directory (TMPDIR) on one that has them: %w", dir, err)
	}
	backend, err := posix.New(objects, storer, posix.PosixOpts{VersioningDir: versions, CopyObjectThreshold: 5 << 30})
	if err != nil {
		return err
	}
	for range startTries {
		if err = serve(ctx, backend); err == nil {
			return nil
		}
	}
	return err
}

func serve(ctx context.Context, backend *posix.Posix) error {
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
			_, err := fmt.Fprintf(os.Stdout, "\n%shttp://%s\n", saidPrefix, address)
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

// Client is one of the gateway at endpoint.
func Client(endpoint string) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: aws.String(endpoint), UsePathStyle: true, Region: Region, HTTPClient: awshttp.NewBuildableClient(),
		Credentials: credentials.NewStaticCredentialsProvider(AccessKey, SecretKey, ""), APIOptions: session.APIOptions(),
	})
}

// MakeBucket makes an empty bucket. It keeps versions if it is versioned.
func MakeBucket(ctx context.Context, endpoint string, versioned bool) (name string, err error) {
	name = "b" + strings.ToLower(rand.Text())
	client := Client(endpoint)
	if _, err := client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name}); err != nil || !versioned {
		return name, err
	}
	_, err = client.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{Bucket: &name,
		VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled}})
	return name, err
}

// URL is what opens a store in a bucket of the gateway.
func URL(endpoint, bucket, prefix string) string {
	query := url.Values{"endpoint": {endpoint}, "region": {Region}}
	return (&url.URL{Scheme: "s3", Host: bucket, Path: "/" + prefix, RawQuery: query.Encode()}).String()
}
