// Package sign makes and checks the signatures of policies with pinned keys: ECDSA P-256 or ed25519, in PEM, in the
// form that cosign makes and checks with --key. There is no certificate, transparency log or clock in it.
package sign

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
)

// Kind of a key.
type Kind string

// Kinds. ECDSA is cosign's own default.
const (
	ECDSA   Kind = "ecdsa"
	Ed25519 Kind = "ed25519"
)

const (
	pemPrivate = "PRIVATE KEY" // PKCS #8
	pemPublic  = "PUBLIC KEY"  // PKIX
	maxKeyFile = 16 << 10
)

// Generate makes a key pair as PEM.
func Generate(kind Kind) (private, public []byte, err error) {
	var key crypto.Signer
	switch kind {
	case ECDSA:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case Ed25519:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		return nil, nil, fmt.Errorf("key of kind %q: want %s or %s", kind, ECDSA, Ed25519)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	if public, err = PublicPEM(key.Public()); err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: der}), public, nil
}

// PublicPEM writes a public key.
func PublicPEM(key crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("write the public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: der}), nil
}

// ParsePrivate reads a private key: PKCS #8, unencrypted.
func ParsePrivate(data []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(data)
	switch {
	case block == nil:
		return nil, errors.New("private key: not in PEM")
	case strings.Contains(block.Type, "ENCRYPTED"):
		return nil, fmt.Errorf("private key: %s is not read here: sign with cosign sign --key, whose signatures gateways accept", block.Type)
	case block.Type != pemPrivate:
		return nil, fmt.Errorf("private key: PEM block %q, want %q", block.Type, pemPrivate)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("private key: a %T cannot sign", key)
	}
	return signer, checkPublic(signer.Public())
}

// ParsePublic reads a public key: PKIX.
func ParsePublic(data []byte) (crypto.PublicKey, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != pemPublic {
		return nil, fmt.Errorf("public key: no PEM block %q", pemPublic)
	}
	if len(strings.TrimSpace(string(rest))) > 0 {
		return nil, errors.New("public key: more than one PEM block; want one key a file")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	return key, checkPublic(key)
}

func checkPublic(key crypto.PublicKey) error {
	switch k := key.(type) {
	case ed25519.PublicKey:
		return nil
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return nil
		}
		return fmt.Errorf("ECDSA key on %s: want P-256", k.Curve.Params().Name)
	}
	return fmt.Errorf("key of type %T: want ECDSA P-256 or ed25519", key)
}

// KeyID is how a key is called: the first eight bytes of the SHA-256 of its PKIX form.
func KeyID(key crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "unknown"
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:8])
}

// Sign adds a signature to the artifact. A key that has signed it already signs again, in place of the old one.
func Sign(a *artifact.Artifact, key crypto.Signer) error {
	if err := checkPublic(key.Public()); err != nil {
		return fmt.Errorf("sign the policy: %w", err)
	}
	payload := artifact.Payload(a.Digest(), a.Meta.Name)
	message, opts := payload, crypto.Hash(0)
	if _, ok := key.Public().(*ecdsa.PublicKey); ok {
		sum := sha256.Sum256(payload)
		message, opts = sum[:], crypto.SHA256
	}
	sig, err := key.Sign(rand.Reader, message, opts)
	if err != nil {
		return fmt.Errorf("sign the policy: %w", err)
	}
	a.Signatures = slices.DeleteFunc(a.Signatures, func(s artifact.Signature) bool { return verify(key.Public(), s) })
	if len(a.Signatures) == artifact.MaxSignatures {
		return fmt.Errorf("sign the policy: it has %d signatures already", len(a.Signatures))
	}
	a.Signatures = append(a.Signatures, artifact.Signature{Payload: payload, Signature: sig})
	return nil
}

func verify(key crypto.PublicKey, s artifact.Signature) bool {
	switch k := key.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(k, s.Payload, s.Signature)
	case *ecdsa.PublicKey:
		sum := sha256.Sum256(s.Payload)
		return ecdsa.VerifyASN1(k, sum[:], s.Signature)
	}
	return false
}

// Key is a pinned public key.
type Key struct {
	ID     string // see [KeyID]
	Name   string // the file's
	Public crypto.PublicKey
}

// Keyring is the keys that a gateway trusts. A policy needs a signature of one of them, so that a key is replaced by
// adding the new one everywhere before the old one is taken away.
type Keyring []Key

// KeySuffix ends the names of the files that LoadKeyring reads.
const KeySuffix = ".pub"

// LoadKeyring reads every file of a directory whose name ends in KeySuffix. A bad file is an error, none at all or no
// directory an empty keyring, which verifies nothing.
func LoadKeyring(dir string) (Keyring, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("policy keys: %w", err)
	}
	var ring Keyring
	for _, e := range entries {
		if e.IsDir() || !strings.HasSuffix(e.Name(), KeySuffix) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		info, err := e.Info()
		if err == nil && info.Size() > maxKeyFile {
			err = fmt.Errorf("%d bytes, the most is %d", info.Size(), maxKeyFile)
		}
		var data []byte
		if err == nil {
			data, err = os.ReadFile(path)
		}
		if err != nil {
			return nil, fmt.Errorf("policy key %s: %w", path, err)
		}
		key, err := ParsePublic(data)
		if err != nil {
			return nil, fmt.Errorf("policy key %s: %w", path, err)
		}
		ring = append(ring, Key{ID: KeyID(key), Name: strings.TrimSuffix(e.Name(), KeySuffix), Public: key})
	}
	return ring, nil
}

// ErrSignature is matched by the errors of a policy whose signature is missing or not that of a pinned key.
var ErrSignature = errors.New("no valid signature of a pinned key")

// Verify gives the key that signed the artifact's manifest, the first in the ring's order. It also checks that the
// document is the one the manifest names.
func (r Keyring) Verify(a *artifact.Artifact) (Key, error) {
	meta, document, err := artifact.ParseManifest(a.Manifest)
	if err != nil {
		return Key{}, err
	}
	if meta != a.Meta {
		return Key{}, errors.New("the policy's manifest does not say what it was read as")
	}
	if document.Size != int64(len(a.Document)) || document.Digest.Algorithm().FromBytes(a.Document) != document.Digest {
		return Key{}, errors.New("the policy document is not the one that its manifest names")
	}
	if len(r) == 0 {
		return Key{}, fmt.Errorf("%s: %w: no key is pinned here", a.Ref(), ErrSignature)
	}
	for _, key := range r {
		for _, s := range a.Signatures {
			if !verify(key.Public, s) {
				continue
			}
			// Only now is the payload worth reading: the key's owner wrote it.
			if d, err := artifact.ParsePayload(s.Payload); err == nil && d == a.Digest() {
				return key, nil
			}
		}
	}
	var names []string
	for _, k := range r {
		names = append(names, k.Name+" ("+k.ID+")")
	}
	return Key{}, fmt.Errorf("%s: %w: %d signatures, pinned keys %s", a.Ref(), ErrSignature, len(a.Signatures), strings.Join(names, ", "))
}
