package license

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"embed"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

// Ring holds the keys that licences are believed by, by KeyID.
type Ring map[string]ed25519.PublicKey

// String names the keys for people.
func (r Ring) String() string {
	if len(r) == 0 {
		return "none: it was built without a licence key"
	}
	return strings.Join(slices.Sorted(maps.Keys(r)), ", ")
}

// KeyID names a key: the first eight bytes of the SHA-256 of its 32 bytes, in hex.
func KeyID(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:8])
}

// DevelopmentKeyID is the key of package devkey, whose private half everybody has. Only a firmware built with the tag
// "lab" believes it.
const DevelopmentKeyID = "1ccc68dbdcf590f6"

// pinned are the vendor's keys, compiled in: every file of the folder keys that ends in .pub.
//
//go:embed keys
var pinned embed.FS

// Pinned is the ring of this firmware. The development key is in it only in a build with the tag "lab".
func Pinned() (Ring, error) {
	ring, err := readKeys(pinned, "keys")
	maps.Copy(ring, labKeys())
	return ring, err
}

// readKeys reads the .pub files of a folder. One that is bad does not take the others along.
func readKeys(files fs.FS, dir string) (Ring, error) {
	ring := Ring{}
	entries, err := fs.ReadDir(files, dir)
	errs := []error{err}
	for _, e := range entries {
		if path.Ext(e.Name()) != ".pub" {
			continue
		}
		data, err := fs.ReadFile(files, path.Join(dir, e.Name()))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		key, err := ParsePublic(data)
		if err == nil && KeyID(key) == DevelopmentKeyID {
			err = errors.New("this is the development key: everybody has its private half")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("licence key %s: %w", e.Name(), err))
			continue
		}
		ring[KeyID(key)] = key
	}
	return ring, errors.Join(errs...)
}

// ParsePublic reads an ed25519 public key as openssl writes it (PEM, SubjectPublicKeyInfo, RFC 8410).
func ParsePublic(data []byte) (ed25519.PublicKey, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, errors.New("not a PEM file with a PUBLIC KEY")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("a %T, want an ed25519 key", parsed)
	}
	return key, nil
}
