// Package model is the services of AWS as their published models have them: what a
// request and an answer look like, by name, type, length, pattern and protocol. It reads
// the models that Debian's python3-botocore installs, so that a fake that answers by them
// is held to what AWS says of itself, and not to what our code happens to send.
package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
)

// DirVariable names another directory of models than Debian's.
const DirVariable = "OC_BOTOCORE_DATA"

const debianDir = "/usr/lib/python3/dist-packages/botocore/data"

// Struct is a structure or a map of a model: strings, int64, float64, bool, time.Time,
// []byte, []any and Struct by name.
type Struct = map[string]any

// Service is one service. It is safe for concurrent use.
type Service struct {
	// Name is botocore's, of its directory.
	Name     string
	Metadata Metadata
	// Operations and Shapes are by name.
	Operations map[string]*Operation
	Shapes     map[string]*Shape
	// Waiters are what the CLI can wait for, by name, and the operation that each asks.
	Waiters map[string]Waiter `json:"-"`

	protocol protocol

	mu       sync.Mutex
	patterns map[string]*regexp.Regexp
}

// Metadata is what a model says of its service.
type Metadata struct {
	APIVersion     string `json:"apiVersion"`
	EndpointPrefix string `json:"endpointPrefix"`
	JSONVersion    string `json:"jsonVersion"`
	Protocol       string `json:"protocol"`
	ServiceID      string `json:"serviceId"`
	SigningName    string `json:"signingName"`
	TargetPrefix   string `json:"targetPrefix"`
	XMLNamespace   string `json:"xmlNamespace"`
}

// Operation is one operation.
type Operation struct {
	Name string `json:"name"`
	HTTP struct {
		Method       string `json:"method"`
		RequestURI   string `json:"requestUri"`
		ResponseCode int    `json:"responseCode"`
	} `json:"http"`
	Input  *Reference  `json:"input"`
	Output *Reference  `json:"output"`
	Errors []Reference `json:"errors"`
}

// Waiter asks an operation until something is so.
type Waiter struct {
	Operation string `json:"operation"`
}

// Reference is a use of a shape.
type Reference struct {
	Shape         string `json:"shape"`
	Location      string `json:"location"`
	LocationName  string `json:"locationName"`
	Flattened     bool   `json:"flattened"`
	ResultWrapper string `json:"resultWrapper"`
	XMLNamespace  struct {
		URI string `json:"uri"`
	} `json:"xmlNamespace"`
}

// Shape is one type.
type Shape struct {
	Name         string
	Type         string               `json:"type"`
	Required     []string             `json:"required"`
	Members      map[string]Reference `json:"members"`
	Member       *Reference           `json:"member"`
	Key          *Reference           `json:"key"`
	Value        *Reference           `json:"value"`
	Enum         []string             `json:"enum"`
	Pattern      string               `json:"pattern"`
	Min          *float64             `json:"min"`
	Max          *float64             `json:"max"`
	Flattened    bool                 `json:"flattened"`
	LocationName string               `json:"locationName"`
	Payload      string               `json:"payload"`
	Exception    bool                 `json:"exception"`
	Fault        bool                 `json:"fault"`
	Error        struct {
		Code       string `json:"code"`
		HTTPStatus int    `json:"httpStatusCode"`
	} `json:"error"`
}

// Load reads the newest model of a service.
func Load(name string) (*Service, error) {
	dir := os.Getenv(DirVariable)
	if dir == "" {
		dir = debianDir
	}
	versions, err := os.ReadDir(filepath.Join(dir, name))
	if err != nil || len(versions) == 0 {
		return nil, fmt.Errorf("the model of %s is not in %s (%w): apt-get install python3-botocore, or name botocore's data directory in %s", name, dir, err, DirVariable)
	}
	file := filepath.Join(dir, name, versions[len(versions)-1].Name(), "service-2.json")
	text, err := readFile(file)
	if err != nil {
		return nil, fmt.Errorf("the model of %s: %w: apt-get install python3-botocore", name, err)
	}
	s := &Service{Name: name, patterns: map[string]*regexp.Regexp{}}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("the model of %s in %s: %w", name, file, err)
	}
	if s.Waiters, err = readWaiters(filepath.Join(filepath.Dir(file), "waiters-2.json")); err != nil {
		return nil, fmt.Errorf("what %s can be waited for: %w", name, err)
	}
	for name, shape := range s.Shapes {
		shape.Name = name
	}
	for _, n := range newer() {
		n.add(s)
	}
	if s.protocol, err = s.speaks(); err != nil {
		return nil, err
	}
	return s, s.complete()
}

// readWaiters reads a file that not each service has.
func readWaiters(file string) (map[string]Waiter, error) {
	text, err := readFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var in struct {
		Waiters map[string]Waiter `json:"waiters"`
	}
	if err == nil {
		err = json.Unmarshal(text, &in)
	}
	return in.Waiters, err
}

// readFile reads a file that may be there in its compressed form alone.
func readFile(file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return text, err
	}
	b, err := os.ReadFile(file + ".gz")
	if err != nil {
		return nil, err
	}
	return decompress(b, maxModelBytes)
}

// maxModelBytes is more than any model has.
const maxModelBytes = 64 << 20

// complete says whether everything that is referred to is there.
func (s *Service) complete() error {
	for name, op := range s.Operations {
		for _, ref := range append(slices.Clone(op.Errors), deref(op.Input), deref(op.Output)) {
			if ref.Shape != "" && s.Shapes[ref.Shape] == nil {
				return fmt.Errorf("the model of %s: %s uses the shape %s, which is not there", s.Name, name, ref.Shape)
			}
		}
	}
	return nil
}

func deref(r *Reference) Reference {
	if r == nil {
		return Reference{}
	}
	return *r
}

// Scope is the name that requests to the service are signed for.
func (s *Service) Scope() string {
	if s.Metadata.SigningName != "" {
		return s.Metadata.SigningName
	}
	return s.Metadata.EndpointPrefix
}

// shape is that of a reference; an operation without input has an empty one.
func (s *Service) shape(r *Reference) *Shape {
	if r == nil {
		return &Shape{Name: "nothing", Type: "structure"}
	}
	return s.Shapes[r.Shape]
}
