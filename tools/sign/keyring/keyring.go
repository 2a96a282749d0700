// Package keyring keeps the keys of whoever builds images: the ed25519 key that
// signs upgrade files, and the three RSA keys of UEFI secure boot (platform key
// PK, key exchange key KEK, signature database db).
//
// They are files in one folder. Who has it can sign images for every box that
// trusts it; keep it off the build machine where that matters.
package keyring

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/foxboron/go-uefi/authenticode"
	"github.com/foxboron/go-uefi/efi/signature"
	"github.com/foxboron/go-uefi/efi/util"
	"github.com/foxboron/go-uefi/efivar"
)

// Dir is a folder with keys.
type Dir string

// Names of the secure boot keys, in the order in which they are enrolled: once
// there is a PK the others are locked.
var Names = []string{"db", "KEK", "PK"}

// owner marks the signatures in the firmware's databases as ours.
var owner = *util.StringToGUID("7477696e-6b65-4570-8000-000000000001")

// lifetime of the certificates. Firmware does not look at it.
const lifetime = 30 * 365 * 24 * time.Hour

func (d Dir) file(name string) string { return filepath.Join(string(d), name) }

// Generate makes all keys that are missing and tells which. It never replaces
// one.
func (d Dir) Generate() (made []string, err error) {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return nil, err
	}
	if _, err := os.Stat(d.file("upgrade.key")); errors.Is(err, fs.ErrNotExist) {
		if _, err := d.UpgradeKey(); err != nil {
			return nil, err
		}
		made = append(made, "upgrade")
	}
	for _, name := range Names {
		if _, err := os.Stat(d.file(name + ".key")); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := d.certificate(name); err != nil {
			return made, fmt.Errorf("make key %s: %w", name, err)
		}
		made = append(made, name)
	}
	return made, d.authFiles()
}

// UpgradeKey is the key for upgrade files; it is made if it is missing.
func (d Dir) UpgradeKey() (ed25519.PrivateKey, error) {
	text, err := os.ReadFile(d.file("upgrade.key"))
	if errors.Is(err, fs.ErrNotExist) {
		return d.newUpgradeKey()
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s: no PEM block", d.file("upgrade.key"))
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.file("upgrade.key"), err)
	}
	ed, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: not an ed25519 key", d.file("upgrade.key"))
	}
	return ed, nil
}

func (d Dir) newUpgradeKey() (ed25519.PrivateKey, error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return nil, err
	}
	if err := d.writeKey("upgrade", key); err != nil {
		return nil, err
	}
	return key, os.WriteFile(d.file("upgrade.pub"), []byte(PublicLine(pub)), 0o644)
}

// PublicLine is a public key as the box reads it (firmware/upgrade/bundle,
// ParseKeys).
func PublicLine(pub ed25519.PublicKey) string {
	return base64.StdEncoding.EncodeToString(pub) + "\n"
}

func (d Dir) writeKey(name string, key any) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(d.file(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

func (d Dir) certificate(name string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Twinkeep " + name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(lifetime), SignatureAlgorithm: x509.SHA256WithRSA,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return err
	}
	if err := d.writeKey(name, key); err != nil {
		return err
	}
	return os.WriteFile(d.file(name+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

// load reads a secure boot key and its certificate.
func (d Dir) load(name string) (crypto.Signer, *x509.Certificate, error) {
	key, err := util.ReadKeyFromFile(d.file(name + ".key"))
	if err != nil {
		return nil, nil, fmt.Errorf("read key %s: %w: make it with `go run ./tools/sign keygen`", name, err)
	}
	cert, err := util.ReadCertFromFile(d.file(name + ".crt"))
	if err != nil {
		return nil, nil, fmt.Errorf("read certificate %s: %w", name, err)
	}
	return key, cert, nil
}

// variables that the certificates go to.
var variables = map[string]efivar.Efivar{"PK": efivar.PK, "KEK": efivar.KEK, "db": efivar.Db}

// signers: a variable is written with the key one above it, the PK with itself.
var signers = map[string]string{"PK": "PK", "KEK": "PK", "db": "KEK"}

// authFiles writes the signed updates of the firmware's variables: NAME.auth.
func (d Dir) authFiles() error {
	for _, name := range Names {
		if _, err := os.Stat(d.file(name + ".auth")); err == nil {
			continue
		}
		_, cert, err := d.load(name)
		if err != nil {
			return err
		}
		key, signer, err := d.load(signers[name])
		if err != nil {
			return err
		}
		db := signature.NewSignatureDatabase()
		if err := db.Append(signature.CERT_X509_GUID, owner, cert.Raw); err != nil {
			return err
		}
		_, update, err := signature.SignEFIVariable(variables[name], db, key, signer)
		if err != nil {
			return fmt.Errorf("sign %s: %w", name, err)
		}
		var out bytes.Buffer
		update.Marshal(&out)
		if err := os.WriteFile(d.file(name+".auth"), out.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Auth is the signed update that enrols a certificate: PK, KEK or db.
func (d Dir) Auth(name string) ([]byte, error) { return os.ReadFile(d.file(name + ".auth")) }

// SignEFI signs an EFI executable with the db key. The signature holds the time,
// so that signed images of two builds differ there.
func (d Dir) SignEFI(image []byte) ([]byte, error) {
	key, cert, err := d.load("db")
	if err != nil {
		return nil, err
	}
	pe, err := authenticode.Parse(bytes.NewReader(image))
	if err != nil {
		return nil, fmt.Errorf("EFI executable: %w", err)
	}
	if _, err := pe.Sign(key, cert); err != nil {
		return nil, err
	}
	return pe.Bytes(), nil
}
