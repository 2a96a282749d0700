package vault

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
)

// The file:
//
//	magic     17 bytes
//	length    of the header, uint32, big-endian
//	header    JSON of Header
//	nonce     24 bytes, random, another one each time
//	content   JSON of []File, by XChaCha20-Poly1305; everything before the nonce is authenticated with it
const magic = "twinkeep vault 1\n"

// Limits, in bytes.
const (
	maxHeader = 64 << 10
	maxVault  = 8 << 20
)

// KeySize is the size of a vault's key in bytes.
const KeySize = chacha20poly1305.KeySize

const (
	idSize       = 16
	recoverySize = 20 // 160 bits; 32 characters
)

// Header is what can be read without the key.
type Header struct {
	ID       []byte          `json:"id"`       // of the key, random
	Sealed   json.RawMessage `json:"sealed"`   // the key, as the Sealer gave it
	Recovery []byte          `json:"recovery"` // the key, encrypted with the recovery key
}

// File is one that is kept. Path begins with the name of its Tree.
type File struct {
	Path string `json:"path"`
	Mode uint32 `json:"mode"` // permission bits
	Data []byte `json:"data"`
}

// Errors.
var (
	// ErrDamaged: it is not as it was written.
	ErrDamaged = errors.New("the vault is damaged: a disk that fails, or somebody has changed it")
	// ErrRecovery: the recovery key is another one.
	ErrRecovery = errors.New("this is not the recovery key of this device")
)

// encode makes the file.
func encode(h Header, key []byte, files []File) ([]byte, error) {
	head, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	content, err := json.Marshal(files)
	if err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	out := binary.BigEndian.AppendUint32([]byte(magic), uint32(len(head)))
	out = append(out, head...)
	front := len(out)
	nonce := make([]byte, aead.NonceSize())
	rand.Read(nonce) // never fails
	out = aead.Seal(append(out, nonce...), nonce, content, out[:front:front])
	if len(head) > maxHeader || len(out) > maxVault {
		return nil, fmt.Errorf("the secrets take %d bytes, the most is %d: is there something large in the configuration directory?", len(out), maxVault)
	}
	return out, nil
}

// split gives the header of a file, and what lies before and behind the end of it.
func split(b []byte) (h Header, front, rest []byte, err error) {
	if len(b) > maxVault || len(b) < len(magic)+4 || string(b[:len(magic)]) != magic {
		return h, nil, nil, ErrDamaged
	}
	n := binary.BigEndian.Uint32(b[len(magic):])
	at := len(magic) + 4
	if n > maxHeader || int(n) > len(b)-at {
		return h, nil, nil, ErrDamaged
	}
	if json.Unmarshal(b[at:at+int(n)], &h) != nil || len(h.ID) != idSize {
		return h, nil, nil, ErrDamaged
	}
	return h, b[:at+int(n)], b[at+int(n):], nil
}

// decode gives the files.
func decode(b, key []byte) (Header, []File, error) {
	h, front, rest, err := split(b)
	if err != nil {
		return h, nil, err
	}
	if len(key) != KeySize || len(rest) < chacha20poly1305.NonceSizeX {
		return h, nil, ErrDamaged
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return h, nil, fmt.Errorf("vault: %w", err)
	}
	content, err := aead.Open(nil, rest[:aead.NonceSize()], rest[aead.NonceSize():], front)
	if err != nil {
		return h, nil, ErrDamaged
	}
	var files []File
	if json.Unmarshal(content, &files) != nil {
		return h, nil, ErrDamaged
	}
	for _, f := range files {
		if !filepath.IsLocal(f.Path) || f.Mode > 0o777 {
			return h, nil, ErrDamaged
		}
	}
	return h, files, nil
}

var letters = base32.StdEncoding.WithPadding(base32.NoPadding)

// NewRecovery makes a recovery key: 32 letters and digits in groups of four, without 0, 1, 8 and 9.
func NewRecovery() string {
	b := make([]byte, recoverySize)
	rand.Read(b) // never fails
	var groups []string
	for text := letters.EncodeToString(b); text != ""; text = text[4:] {
		groups = append(groups, text[:4])
	}
	return strings.Join(groups, "-")
}

// misread are characters that no recovery key has, and what they were meant to be.
var misread = strings.NewReplacer("-", "", " ", "", "0", "O", "1", "I", "8", "B")

// parseRecovery reads one as people type it.
func parseRecovery(text string) ([]byte, error) {
	text = misread.Replace(strings.ToUpper(strings.TrimSpace(text)))
	b, err := letters.DecodeString(text)
	if err != nil || len(text) != letters.EncodedLen(recoverySize) {
		return nil, fmt.Errorf("a recovery key has %d letters and digits, in groups of four", letters.EncodedLen(recoverySize))
	}
	return b, nil
}

// wrap encrypts the key with a recovery key. A recovery key is used with one id only, and the nonce is random besides.
func wrap(recovery string, id, key []byte) ([]byte, error) {
	b, err := parseRecovery(recovery)
	if err != nil {
		return nil, err
	}
	aead, err := recoveryCipher(b, id)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	rand.Read(nonce) // never fails
	return aead(nonce, key, true)
}

func unwrap(recovery string, h Header) ([]byte, error) {
	b, err := parseRecovery(recovery)
	if err != nil {
		return nil, err
	}
	aead, err := recoveryCipher(b, h.ID)
	if err != nil || len(h.Recovery) < chacha20poly1305.NonceSizeX {
		return nil, errors.Join(ErrDamaged, err)
	}
	return aead(h.Recovery[:chacha20poly1305.NonceSizeX], h.Recovery[chacha20poly1305.NonceSizeX:], false)
}

func recoveryCipher(recovery, id []byte) (func(nonce, text []byte, seal bool) ([]byte, error), error) {
	k, err := hkdf.Key(sha256.New, recovery, id, "twinkeep vault recovery 1", KeySize)
	if err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	aead, err := chacha20poly1305.NewX(k)
	if err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	return func(nonce, text []byte, seal bool) ([]byte, error) {
		if seal {
			return aead.Seal(bytes.Clone(nonce), nonce, text, id), nil
		}
		key, err := aead.Open(nil, nonce, text, id)
		if err != nil {
			return nil, ErrRecovery
		}
		return key, nil
	}, nil
}
