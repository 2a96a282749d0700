package server

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/registry/auth"
)

// Token is what a client shows instead of a password. The file has its SHA-256: a token is 32 random bytes, which needs
// no slow hash, and a slow one (bcrypt, as in htpasswd files) would cost more than everything else that a poll does.
type Token struct {
	Name       string    `json:"name"`
	SHA256     string    `json:"sha256"`
	Write      bool      `json:"write,omitempty"`      // may push and delete
	Repository string    `json:"repository,omitempty"` // the only one it opens; empty: all
	Created    time.Time `json:"created"`
}

// tokenPrefix lets people and secret scanners tell what it is.
const tokenPrefix = "tkm_"

// Tokens is the token file. It is read again when it changes, so that tokens are made and revoked while the server runs.
type Tokens struct {
	path string

	mu    sync.Mutex
	stamp fileStamp
	list  []Token
}

type fileStamp struct {
	time time.Time
	size int64
}

// OpenTokens reads the token file of a manager's directory. There may be none yet.
func OpenTokens(dir string) (*Tokens, error) {
	t := &Tokens{path: filepath.Join(dir, "tokens.json")}
	_, err := t.List()
	return t, err
}

// List is what the file has.
func (t *Tokens) List() ([]Token, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	info, err := os.Stat(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	if s := (fileStamp{info.ModTime(), info.Size()}); s != t.stamp {
		data, err := os.ReadFile(t.path)
		if err != nil {
			return nil, fmt.Errorf("tokens: %w", err)
		}
		var list []Token
		if err := json.Unmarshal(data, &list); err != nil {
			return nil, fmt.Errorf("tokens: %s: %w", t.path, err)
		}
		t.list, t.stamp = list, s
	}
	return slices.Clone(t.list), nil
}

// Add makes a token. It is shown here and never again.
func (t *Tokens) Add(token Token) (secret string, err error) {
	list, err := t.List()
	if err != nil {
		return "", err
	}
	if token.Name == "" {
		return "", errors.New("a token needs a name")
	}
	if slices.ContainsFunc(list, func(o Token) bool { return o.Name == token.Name }) {
		return "", fmt.Errorf("there is a token %q already: choose another --name, or revoke that one", token.Name)
	}
	random := make([]byte, 32)
	rand.Read(random)
	secret = tokenPrefix + base64.RawURLEncoding.EncodeToString(random)
	token.SHA256, token.Created = hash(secret), time.Now().UTC().Truncate(time.Second)
	return secret, t.save(append(list, token))
}

// Revoke removes a token.
func (t *Tokens) Revoke(name string) error {
	list, err := t.List()
	if err != nil {
		return err
	}
	left := slices.DeleteFunc(slices.Clone(list), func(o Token) bool { return o.Name == name })
	if len(left) == len(list) {
		return fmt.Errorf("there is no token %q", name)
	}
	return t.save(left)
}

func hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

func (t *Tokens) save(list []Token) error {
	data, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(t.path, append(data, '\n'))
}

// writeFile puts a file in place, mode 0600: after a power cut there is the old one or the new one.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails harmlessly once renamed
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// find gives the token that a request shows: as the password of basic authentication, whatever the user name, or as a
// bearer token.
func (t *Tokens) find(r *http.Request) (Token, bool) {
	secret, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		_, secret, ok = r.BasicAuth()
	}
	if !ok {
		return Token{}, false
	}
	list, err := t.List()
	if err != nil {
		return Token{}, false
	}
	want := []byte(hash(secret))
	for _, token := range list {
		if subtle.ConstantTimeCompare([]byte(token.SHA256), want) == 1 {
			return token, true
		}
	}
	return Token{}, false
}

// accessName is how the registry library knows this access controller.
const accessName = "twinkeep"

func init() {
	err := auth.Register(accessName, func(options map[string]any) (auth.AccessController, error) {
		t, ok := options["tokens"].(*Tokens)
		if !ok {
			return nil, errors.New("no tokens")
		}
		return t, nil
	})
	if err != nil {
		panic(err) // the name is taken: only another package of this binary could have done it
	}
}

// Authorized implements the registry's access controller.
func (t *Tokens) Authorized(r *http.Request, access ...auth.Access) (*auth.Grant, error) {
	token, ok := t.find(r)
	if !ok {
		return nil, challenge{auth.ErrAuthenticationFailure}
	}
	grant := &auth.Grant{User: auth.UserInfo{Name: token.Name}}
	for _, a := range access {
		switch {
		case !token.Write && a.Action != "pull":
			return nil, challenge{fmt.Errorf("token %q is read-only", token.Name)}
		case token.Repository != "" && (a.Type != "repository" || a.Name != token.Repository):
			return nil, challenge{fmt.Errorf("token %q is only for %s", token.Name, token.Repository)}
		}
		grant.Resources = append(grant.Resources, a.Resource)
	}
	return grant, nil
}

// challenge asks for a token.
type challenge struct{ error }

// SetHeaders implements the registry's challenge.
func (challenge) SetHeaders(_ *http.Request, w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", `Basic realm="twinkeep-manager"`)
}
