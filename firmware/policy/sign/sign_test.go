package sign

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
)

func newKey(t *testing.T, kind Kind) (crypto.Signer, []byte) {
	t.Helper()
	private, public, err := Generate(kind)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParsePrivate(private)
	if err != nil {
		t.Fatal(err)
	}
	return key, public
}

func newPolicy(t *testing.T, revision uint64) *artifact.Artifact {
	t.Helper()
	a, err := artifact.New(artifact.Meta{Name: "office", Revision: revision}, []byte("version: 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func ring(t *testing.T, files map[string][]byte) Keyring {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r, err := LoadKeyring(dir)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSignAndVerify(t *testing.T) {
	for _, kind := range []Kind{ECDSA, Ed25519} {
		key, public := newKey(t, kind)
		_, other := newKey(t, kind)
		a := newPolicy(t, 7)
		trusted := ring(t, map[string][]byte{"new.pub": other, "old.pub": public, "README": []byte("x")})
		if _, err := trusted.Verify(a); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: an unsigned policy: %v", kind, err)
		}
		for range 2 { // signing again replaces
			if err := Sign(a, key); err != nil {
				t.Fatal(err)
			}
		}
		if len(a.Signatures) != 1 {
			t.Errorf("%s: %d signatures of one key", kind, len(a.Signatures))
		}
		if k, err := trusted.Verify(a); err != nil || k.Name != "old" || k.ID != KeyID(key.Public()) {
			t.Errorf("%s: %+v, %v", kind, k, err)
		}
		if _, err := ring(t, map[string][]byte{"new.pub": other}).Verify(a); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: a key that is not pinned: %v", kind, err)
		}
		if _, err := (Keyring)(nil).Verify(a); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: no key at all: %v", kind, err)
		}
	}
}

func TestVerifyRefusesWhatWasNotSigned(t *testing.T) {
	key, public := newKey(t, ECDSA)
	trusted := ring(t, map[string][]byte{"a.pub": public})
	good := newPolicy(t, 7)
	if err := Sign(good, key); err != nil {
		t.Fatal(err)
	}
	later := newPolicy(t, 8)
	later.Signatures = good.Signatures // a signature of another revision
	if _, err := trusted.Verify(later); !errors.Is(err, ErrSignature) {
		t.Errorf("another revision under the same signature: %v", err)
	}
	changed := *good
	changed.Document = []byte("version: 2\n")
	if _, err := trusted.Verify(&changed); err == nil {
		t.Error("another document under the same manifest was accepted")
	}
	changed = *good
	changed.Meta.Revision = 9
	if _, err := trusted.Verify(&changed); err == nil {
		t.Error("another revision beside the same manifest was accepted")
	}
	changed = *good
	changed.Manifest = bytes.Replace(good.Manifest, []byte(`revision":"7"`), []byte(`revision":"9"`), 1)
	changed.Meta.Revision = 9
	if _, err := trusted.Verify(&changed); !errors.Is(err, ErrSignature) {
		t.Errorf("a changed manifest: %v", err)
	}
}

func TestKeysRefused(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(p384)
	if err != nil {
		t.Fatal(err)
	}
	public, err := PublicPEM(p384.Public())
	if err != nil {
		t.Fatal(err)
	}
	_, good := newKey(t, ECDSA)
	for name, tt := range map[string]struct {
		private, public []byte
		want            string
	}{
		"P-384":     {private: pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: der}), public: public, want: "P-256"},
		"no PEM":    {private: []byte("x"), public: []byte("x"), want: "PEM"},
		"garbage":   {private: []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), want: "private key"},
		"cosign's":  {private: []byte("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n"), want: "cosign sign"},
		"two in it": {public: append(bytes.Clone(good), good...), want: "one key a file"},
	} {
		if _, err := ParsePrivate(tt.private); tt.private != nil && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: private: %v, want %q in it", name, err, tt.want)
		}
		if _, err := ParsePublic(tt.public); tt.public != nil && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: public: %v, want %q in it", name, err, tt.want)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "bad.pub"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKeyring(dir); err == nil || !strings.Contains(err.Error(), "bad.pub") {
		t.Errorf("a bad file in the ring: %v", err)
	}
	if r, err := LoadKeyring(filepath.Join(dir, "none")); err != nil || len(r) != 0 {
		t.Errorf("no directory: %v, %v", r, err)
	}
}
