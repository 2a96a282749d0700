package sshd

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/crypto/ssh"

	"github.com/twinkeep/twinkeep/init/vault"
)

// AuthorizedFile in the config directory has the keys that may log in, one a line, as OpenSSH's authorized_keys.
const AuthorizedFile = "authorized_keys"

// hostFile in the state directory is the host key, in OpenSSH's private key format.
const hostFile = "ssh/host_ed25519"

// Limits of what is read.
const (
	maxKeys    = 64
	maxLine    = 4 << 10 // bytes; an RSA key of maxRSA takes 1,5 KiB
	maxFile    = maxKeys * maxLine
	maxComment = 100 // characters
	minRSA     = 2048
	maxRSA     = 8192
)

// Key is a public key that may log in.
type Key struct {
	ssh.PublicKey
	Comment string
}

// Fingerprint is that of ssh-keygen -l.
func (k Key) Fingerprint() string { return ssh.FingerprintSHA256(k.PublicKey) }

// line is the key as a line of AuthorizedFile.
func (k Key) line() string {
	line := strings.TrimSuffix(string(ssh.MarshalAuthorizedKey(k.PublicKey)), "\n")
	if k.Comment != "" {
		line += " " + k.Comment
	}
	return line + "\n"
}

var keyTypes = []string{ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKECDSA256, ssh.KeyAlgoRSA}

// ParseKey reads one line of AuthorizedFile: type, key, comment. There are no options: none is obeyed here.
func ParseKey(line string) (Key, error) {
	line = strings.TrimSpace(line)
	switch {
	case len(line) > maxLine:
		return Key{}, fmt.Errorf("a key has at most %d bytes; this has %d", maxLine, len(line))
	case strings.ContainsAny(line, "\r\n\x00"):
		return Key{}, errors.New("a key is one line")
	case strings.Contains(line, "PRIVATE KEY"):
		return Key{}, errors.New("this is a private key: keep it to yourself, and give the line of the .pub file")
	}
	key, comment, options, _, err := ssh.ParseAuthorizedKey([]byte(line))
	switch {
	case err != nil:
		return Key{}, errors.New("this is not a public key, as the line of an id_ed25519.pub is")
	case len(options) > 0:
		return Key{}, fmt.Errorf("options in front of a key are not obeyed here, so they are refused: %.40q", options[0])
	case !slices.Contains(keyTypes, key.Type()):
		return Key{}, fmt.Errorf("keys of type %.60q are not taken; ed25519, ECDSA and RSA are", key.Type())
	}
	if c, ok := key.(ssh.CryptoPublicKey); ok {
		if r, ok := c.CryptoPublicKey().(*rsa.PublicKey); ok && (r.N.BitLen() < minRSA || r.N.BitLen() > maxRSA) {
			return Key{}, fmt.Errorf("an RSA key has %d to %d bits; this has %d", minRSA, maxRSA, r.N.BitLen())
		}
	}
	return Key{key, printable(comment, maxComment)}, nil
}

// printable is text without what could play tricks on a terminal or a log, cut off.
func printable(s string, most int) string {
	out := make([]rune, 0, min(len(s), most))
	for _, r := range s {
		if len(out) == most {
			break
		}
		if !unicode.IsPrint(r) {
			r = '?'
		}
		out = append(out, r)
	}
	return strings.TrimSpace(string(out))
}

// LoadKeys reads the keys of a config directory. Lines that are not good are left out, and told.
func LoadKeys(configDir string) (keys []Key, faults []error, err error) {
	data, err := readFile(filepath.Join(configDir, AuthorizedFile), maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read the keys that may log in: %w", err)
	}
	for i, line := range strings.Split(string(data), "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		key, err := ParseKey(line)
		if err == nil && len(keys) == maxKeys {
			err = fmt.Errorf("there are more than %d keys", maxKeys)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s, line %d: %w", AuthorizedFile, i+1, err))
			continue
		}
		keys = append(keys, key)
	}
	return keys, faults, nil
}

// saveKeys replaces the keys of a config directory.
func saveKeys(configDir string, keys []Key) error {
	var b strings.Builder
	for _, k := range keys {
		b.WriteString(k.line())
	}
	if err := vault.Write(filepath.Join(configDir, AuthorizedFile), []byte(b.String())); err != nil {
		return fmt.Errorf("keep the keys that may log in: %w", err)
	}
	return nil
}

// hostKey reads the host key of a state directory, and makes one where there is none. A damaged one is put aside: a box
// that cannot be reached is worse than one that has to be recognised anew. note says what the operator should know; a key
// that could not be kept comes with one.
func hostKey(stateDir string) (key ssh.Signer, note string, err error) {
	path := filepath.Join(stateDir, hostFile)
	data, err := readFile(path, maxLine)
	if err == nil {
		if key, err = parseHost(data); err == nil {
			return key, "", nil
		}
		note = fmt.Sprintf("the host key was damaged (%v) and is now %s.damaged: there is a new one, of which clients will warn", err, path)
		err = os.Rename(path, path+".damaged")
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	_, private, makeErr := ed25519.GenerateKey(rand.Reader)
	if makeErr != nil {
		return nil, "", makeErr
	}
	if key, makeErr = ssh.NewSignerFromKey(private); makeErr != nil {
		return nil, "", makeErr
	}
	block, makeErr := ssh.MarshalPrivateKey(private, "")
	if makeErr != nil {
		return nil, "", makeErr
	}
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = vault.Write(path, pem.EncodeToMemory(block))
	}
	if err != nil {
		note = fmt.Sprintf("the host key is not kept, and will be another one after a restart: %v", err)
	}
	return key, note, nil
}

func parseHost(data []byte) (ssh.Signer, error) {
	key, err := ssh.ParsePrivateKey(data)
	if err == nil && key.PublicKey().Type() != ssh.KeyAlgoED25519 {
		err = errors.New("it is not an ed25519 key")
	}
	return key, err
}

func readFile(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return data, err
}
