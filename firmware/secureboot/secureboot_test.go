package secureboot

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/foxboron/go-uefi/efi/signature"
	"github.com/foxboron/go-uefi/efi/util"

	"github.com/twinkeep/twinkeep/tools/sign/keyring"
)

// executable is the smallest EFI executable that can be signed: headers and one
// section.
func executable(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/small.efi")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func vars(t *testing.T, setup, on byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, v := range map[string]byte{"SetupMode": setup, "SecureBoot": on} {
		if err := os.WriteFile(place(dir, name, global), []byte{6, 0, 0, 0, v}, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestRead(t *testing.T) {
	if s, err := Read(t.TempDir()); err != nil || s.Supported {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err := Read(vars(t, 1, 0)); err != nil || s != (Status{true, false, true}) {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestEnrol(t *testing.T) {
	keys := keyring.Dir(filepath.Join(t.TempDir(), "keys"))
	if _, err := keys.Generate(); err != nil {
		t.Fatal(err)
	}
	dir := vars(t, 1, 0)
	if err := Enrol(dir, string(keys)); err != nil {
		t.Fatal(err)
	}
	for _, v := range variables {
		auth, err := keys.Auth(v.name)
		got, rerr := os.ReadFile(place(dir, v.name, v.vendor))
		if err != nil || rerr != nil || !bytes.Equal(got, append([]byte{0x27, 0, 0, 0}, auth...)) {
			t.Errorf("%s: %v, %v", v.name, err, rerr)
		}
	}
	if err := Enrol(vars(t, 0, 1), string(keys)); !errors.Is(err, ErrNotSetup) {
		t.Error(err)
	}
	if err := Enrol(vars(t, 1, 0), t.TempDir()); err == nil || !strings.Contains(err.Error(), "built without signing") {
		t.Error(err)
	}
}

func TestCheck(t *testing.T) {
	ours, others := keyring.Dir(filepath.Join(t.TempDir(), "a")), keyring.Dir(filepath.Join(t.TempDir(), "b"))
	for _, d := range []keyring.Dir{ours, others} {
		if _, err := d.Generate(); err != nil {
			t.Fatal(err)
		}
	}
	image := executable(t)
	signed, err := ours.SignEFI(image)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := others.SignEFI(image)
	if err != nil {
		t.Fatal(err)
	}
	tampered := bytes.Clone(signed)
	tampered[0x400] ^= 1

	dir := vars(t, 0, 1)
	cert, err := util.ReadCertFromFile(filepath.Join(string(ours), "db.crt"))
	if err != nil {
		t.Fatal(err)
	}
	db := signature.NewSignatureDatabase()
	if err := db.Append(signature.CERT_X509_GUID, *util.StringToGUID("7477696e-6b65-4570-8000-000000000001"), cert.Raw); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(place(dir, "db", security), append([]byte{0x27, 0, 0, 0}, db.Bytes()...), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, i := range map[string][]byte{"unsigned": image, "signed by others": foreign, "tampered": tampered} {
		if err := Check(dir, i); !errors.Is(err, ErrUnsigned) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Check(dir, signed); err != nil {
		t.Errorf("signed: %v", err)
	}
	if err := Check(vars(t, 1, 0), image); err != nil {
		t.Errorf("unsigned without secure boot: %v", err)
	}
}
