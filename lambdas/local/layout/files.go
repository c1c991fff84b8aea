package layout

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// WriteFile replaces a file that only its owner may read, as one step that a crash does
// not halve.
func WriteFile(path string, b []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) (err error) {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return WriteFile(path, append(b, '\n'))
}

// secretBytes is the length of a secret that is made here, before it is written as hex.
const secretBytes = 32

// Secret reads a file of one secret, which is made where there is none.
func Secret(path string) (string, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		var random [secretBytes]byte
		if _, err := rand.Read(random[:]); err != nil {
			return "", err
		}
		text := hex.EncodeToString(random[:])
		return text, WriteFile(path, []byte(text+"\n"))
	} else if err != nil {
		return "", fmt.Errorf("read a secret: %w", err)
	}
	text := strings.TrimSpace(string(b))
	if text == "" {
		return "", fmt.Errorf("%s is empty; remove it to have a new secret made", path)
	}
	return text, nil
}

// Endpoints are where an instance is reached. Its JSON is stable.
type Endpoints struct {
	// Endpoint follows the writer; Writer and Followers are nodes, as URLs.
	Endpoint  string   `json:"endpoint"`
	Writer    string   `json:"writer"`
	Followers []string `json:"followers"`
	// DNS is the host:port of the server of the zone.
	DNS       string `json:"dns"`
	Dashboard string `json:"dashboard,omitempty"`
	Status    string `json:"status,omitempty"`
	Tenant    string `json:"tenant"`
	// TokenFile and AdminTokenFile are absolute paths.
	TokenFile      string `json:"token_file"`
	AdminTokenFile string `json:"admin_token_file"`
	// Archive is a URL as oc-pitr takes it.
	Archive string `json:"archive"`
}

// SaveEndpoints writes them, with the node that writes now.
func (d Dir) SaveEndpoints(in *Instance, writer string) error {
	e := Endpoints{
		Endpoint: in.Endpoint(), DNS: in.DNSAddress(), Tenant: in.Tenant, TokenFile: d.TenantToken(), AdminTokenFile: d.AdminToken(),
		Archive: d.ArchiveURL(), Followers: []string{},
	}
	for _, n := range in.Registered() {
		if n.ID == writer {
			e.Writer = n.URL
		} else {
			e.Followers = append(e.Followers, n.URL)
		}
	}
	return writeJSON(d.Endpoints(), e)
}

// ReadEndpoints reads what an instance that was once up has written.
func (d Dir) ReadEndpoints() (e Endpoints, err error) {
	b, err := os.ReadFile(d.Endpoints())
	if err != nil {
		return e, fmt.Errorf("read the endpoints: %w; is an instance up in %s? (oc-control up --dir %s)", err, string(d), string(d))
	}
	if err := json.Unmarshal(b, &e); err != nil {
		return e, fmt.Errorf("%s is damaged: %w; oc-control up writes it again", d.Endpoints(), err)
	}
	return e, nil
}
