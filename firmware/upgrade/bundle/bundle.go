// Package bundle is the file format of an upgrade: a signed manifest and the
// image behind it.
//
//	offset  size  what
//	0       8     "TWKUPG1\n"
//	8       4     n, length of the manifest in bytes, big-endian, 1 to 65536
//	12      n     the manifest, JSON
//	12+n    64    ed25519 signature over "twinkeep upgrade 1\n" and the manifest's bytes
//	76+n    size  the image, as long and with the SHA-256 that the manifest says
//
// So everything that decides whether the file belongs on a box is at its front
// and proven before the image is looked at, and a file can be read from a pipe.
package bundle

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/twinkeep/twinkeep/firmware/upgrade"
)

const (
	magic   = "TWKUPG1\n"
	context = "twinkeep upgrade 1\n"
	// MaxManifest bounds the manifest in bytes.
	MaxManifest = 64 << 10
)

// Manifest says what the image behind it is.
type Manifest struct {
	Board    string `json:"board"`
	Version  string `json:"version"`
	Revision uint64 `json:"revision"`
	Size     int64  `json:"size"`   // bytes of the image
	SHA256   string `json:"sha256"` // of the image, hexadecimal
}

// Errors of Open and Reader.
var (
	ErrFormat    = errors.New("not an upgrade file of Twinkeep")
	ErrTruncated = errors.New("the file ends too early: it was cut short, fetch it again")
	ErrSignature = errors.New("the signature is not by a key that this box trusts")
	ErrImage     = errors.New("the image is not the one that was signed: fetch the file again")
)

// Write writes a bundle.
func Write(w io.Writer, r upgrade.Release, image []byte, key ed25519.PrivateKey) error {
	sum := sha256.Sum256(image)
	manifest, err := json.Marshal(Manifest{Board: r.Board, Version: r.Version, Revision: r.Revision, Size: int64(len(image)), SHA256: hex.EncodeToString(sum[:])})
	if err != nil {
		return err
	}
	head := append([]byte(magic), binary.BigEndian.AppendUint32(nil, uint32(len(manifest)))...)
	head = append(head, manifest...)
	head = append(head, ed25519.Sign(key, append([]byte(context), manifest...))...)
	for _, part := range [][]byte{head, image} {
		if _, err := w.Write(part); err != nil {
			return fmt.Errorf("write upgrade file: %w", err)
		}
	}
	return nil
}

// Reader reads the image of a bundle whose manifest is proven. At the end of
// the image it gives io.EOF only if the image is the one that was signed, and
// an error of this package otherwise.
type Reader struct {
	Candidate upgrade.Candidate
	r         io.Reader
	left      int64
	hash      hash.Hash
	failed    error
}

// Open reads the front of a bundle and proves it. Nothing of it is believed
// before the signature is.
func Open(r io.Reader, keys []ed25519.PublicKey) (*Reader, error) {
	head := make([]byte, len(magic)+4)
	if err := full(r, head); err != nil {
		return nil, err
	}
	if string(head[:len(magic)]) != magic {
		return nil, ErrFormat
	}
	n := binary.BigEndian.Uint32(head[len(magic):])
	if n == 0 || n > MaxManifest {
		return nil, fmt.Errorf("%w: manifest of %d bytes", ErrFormat, n)
	}
	raw := make([]byte, n+ed25519.SignatureSize)
	if err := full(r, raw); err != nil {
		return nil, err
	}
	text, sig := raw[:n], raw[n:]
	if !signed(text, sig, keys) {
		return nil, ErrSignature
	}
	var m Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, fmt.Errorf("%w: manifest: %w", ErrFormat, err)
	}
	sum, err := hex.DecodeString(m.SHA256)
	if err != nil || len(sum) != sha256.Size || m.Size <= 0 {
		return nil, fmt.Errorf("%w: the manifest names no image", ErrFormat)
	}
	return &Reader{
		Candidate: upgrade.Candidate{Release: upgrade.Release{Board: m.Board, Version: m.Version, Revision: m.Revision}, Size: m.Size, SHA256: [32]byte(sum)},
		r:         r, left: m.Size, hash: sha256.New(),
	}, nil
}

func full(r io.Reader, p []byte) error {
	_, err := io.ReadFull(r, p)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrTruncated
	}
	return err
}

func signed(manifest, sig []byte, keys []ed25519.PublicKey) bool {
	for _, k := range keys {
		if ed25519.Verify(k, append([]byte(context), manifest...), sig) {
			return true
		}
	}
	return false
}

// HeadSize is the length of everything before the image for a manifest of n
// bytes.
func HeadSize(n int) int64 { return int64(len(magic) + 4 + n + ed25519.SignatureSize) }

// Read reads the image.
func (r *Reader) Read(p []byte) (int, error) {
	if r.failed != nil {
		return 0, r.failed
	}
	if r.left == 0 {
		r.failed = io.EOF
		if [32]byte(r.hash.Sum(nil)) != r.Candidate.SHA256 {
			r.failed = ErrImage
		}
		return 0, r.failed
	}
	if int64(len(p)) > r.left {
		p = p[:r.left]
	}
	n, err := r.r.Read(p)
	r.hash.Write(p[:n])
	r.left -= int64(n)
	switch {
	case errors.Is(err, io.EOF) && r.left > 0:
		r.failed = ErrTruncated
		return n, r.failed
	case err != nil && !errors.Is(err, io.EOF):
		r.failed = fmt.Errorf("read the image: %w", err)
		return n, r.failed
	}
	return n, nil
}

// ParseKeys reads public keys: one a line, base64, with # comments.
func ParseKeys(text string) ([]ed25519.PublicKey, error) {
	var keys []ed25519.PublicKey
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(key) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("upgrade key %q: want %d bytes in base64", line, ed25519.PublicKeySize)
		}
		keys = append(keys, key)
	}
	return keys, nil
}
