// Package secureboot looks after UEFI secure boot on the box: whether it is on,
// how our keys get into the firmware, and whether the firmware would start an
// image.
package secureboot

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/foxboron/go-uefi/authenticode"
	"github.com/foxboron/go-uefi/efi/signature"

	"github.com/twinkeep/twinkeep/init/loader"
)

// GUIDs of the vendors of the variables (UEFI specification 2.10, 3.3 and 32.6.1).
const (
	global   = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
	security = "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
)

// variables in the order in which they are written: with a PK the firmware
// leaves setup mode, and the others are locked.
var variables = []struct{ name, vendor string }{{"db", security}, {"KEK", global}, {"PK", global}}

// attributes of the variables: non-volatile, seen at boot and at run time, and
// written with a signature that holds the time.
const attributes = 0x27

// Status of the firmware.
type Status struct {
	Supported bool `json:"supported"`
	Enabled   bool `json:"enabled"`    // unsigned images do not start
	SetupMode bool `json:"setup_mode"` // anybody may enrol keys
}

// Read reads the status from the variables below dir ("" means the kernel's).
func Read(dir string) (Status, error) {
	on, err := flag(dir, "SecureBoot")
	if errors.Is(err, fs.ErrNotExist) {
		return Status{}, nil
	}
	if err != nil {
		return Status{}, err
	}
	setup, err := flag(dir, "SetupMode")
	return Status{true, on, setup}, err
}

func place(dir, name, vendor string) string {
	if dir == "" {
		dir = loader.Vars
	}
	return filepath.Join(dir, name+"-"+vendor)
}

// flag reads a variable of one byte behind its attributes.
func flag(dir, name string) (bool, error) {
	b, err := os.ReadFile(place(dir, name, global))
	if err != nil {
		return false, err
	}
	if len(b) != 5 {
		return false, fmt.Errorf("variable %s has %d bytes, want 5", name, len(b))
	}
	return b[4] == 1, nil
}

// ErrNotSetup says that the firmware takes no keys.
var ErrNotSetup = errors.New("the firmware is not in setup mode: clear its secure boot keys in the firmware's own setup first")

// Enrol puts the keys in the folder keys (db.auth, KEK.auth, PK.auth) into the
// firmware. From the next start on it starts only what they have signed.
func Enrol(dir, keys string) error {
	s, err := Read(dir)
	switch {
	case err != nil:
		return err
	case !s.Supported:
		return errors.New("this firmware has no secure boot")
	case !s.SetupMode:
		return ErrNotSetup
	}
	var updates [][]byte
	for _, v := range variables {
		b, err := os.ReadFile(filepath.Join(keys, v.name+".auth"))
		if err != nil {
			return fmt.Errorf("%w: this image brings no keys; it was built without signing", err)
		}
		updates = append(updates, append([]byte{attributes, 0, 0, 0}, b...))
	}
	for i, v := range variables {
		// One write is one call of the firmware, so no temporary file.
		f, err := os.OpenFile(place(dir, v.name, v.vendor), os.O_WRONLY|os.O_CREATE, 0o644)
		if err != nil {
			return fmt.Errorf("enrol %s: %w", v.name, err)
		}
		_, err = f.Write(updates[i])
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("enrol %s: %w", v.name, err)
		}
	}
	return nil
}

// ErrUnsigned says that the firmware would refuse an image.
var ErrUnsigned = errors.New("secure boot is on, and the image is not signed by a key in the firmware: it would not start")

// Check tells whether the firmware would start an image. Without secure boot it
// starts everything.
func Check(dir string, image []byte) error {
	s, err := Read(dir)
	if err != nil || !s.Enabled {
		return err
	}
	certs, err := trusted(dir)
	if err != nil {
		return err
	}
	return SignedBy(image, certs)
}

// SignedBy tells whether one of the certificates has signed an EFI executable.
func SignedBy(image []byte, certs []*x509.Certificate) error {
	pe, err := authenticode.Parse(bytes.NewReader(image))
	if err != nil {
		return fmt.Errorf("not an EFI executable: %w", err)
	}
	for _, c := range certs {
		if ok, err := pe.Verify(c); err == nil && ok {
			return nil
		}
	}
	return ErrUnsigned
}

// trusted reads the certificates in db.
func trusted(dir string) ([]*x509.Certificate, error) {
	b, err := os.ReadFile(place(dir, "db", security))
	if err != nil || len(b) < 4 {
		return nil, fmt.Errorf("read the firmware's signature database: %w", errors.Join(err, errors.New("it is empty")))
	}
	db, err := signature.ReadSignatureDatabase(bytes.NewReader(b[4:]))
	if err != nil {
		return nil, fmt.Errorf("the firmware's signature database: %w", err)
	}
	var certs []*x509.Certificate
	for _, list := range db {
		if list.SignatureType != signature.CERT_X509_GUID {
			continue
		}
		for _, s := range list.Signatures {
			if c, err := x509.ParseCertificate(s.Data); err == nil {
				certs = append(certs, c)
			}
		}
	}
	return certs, nil
}
