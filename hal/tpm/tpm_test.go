package tpm

import (
	"bytes"
	"errors"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/twinkeep/twinkeep/hal/tpm/tpmtest"
)

// chip is a TPM of swtpm, switched off and on as a machine is.
type chip struct {
	*testing.T
	dir  string
	chip *tpmtest.Chip
	*TPM
}

func newChip(t *testing.T) *chip {
	t.Helper()
	if _, err := exec.LookPath("swtpm"); err != nil {
		t.Skip("swtpm is not installed: tools/need.sh tpm")
	}
	c := &chip{T: t, dir: filepath.Join(t.TempDir(), "tpm")}
	c.on()
	t.Cleanup(func() { c.chip.Cut() })
	return c
}

func (c *chip) on() {
	c.Helper()
	var err error
	if c.chip, err = tpmtest.Power(c.dir, false); err != nil {
		c.Fatal(err)
	}
	t, err := linuxudstpm.Open(c.chip.Socket)
	if err != nil {
		c.Fatal(err)
	}
	c.TPM = &TPM{t}
}

// reset is a restart of the machine.
func (c *chip) reset() { c.Helper(); c.chip.Cut(); c.on() }

// measure is the firmware.
func (c *chip) measure(pcr uint, text string) {
	c.Helper()
	digest := bytes.Repeat([]byte{text[0]}, 32)
	if _, err := (tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: digest}}},
	}).Execute(c.TPM.t); err != nil {
		c.Fatal(err)
	}
}

func (c *chip) cap() {
	c.Helper()
	if err := c.Cap(); err != nil {
		c.Fatal(err)
	}
}

func (c *chip) want(b Blob, key []byte, why error) {
	c.Helper()
	got, err := c.Unseal(b)
	if !errors.Is(err, why) || !bytes.Equal(got, key) {
		c.Errorf("unseal: %q, %v; want %q, %v", got, err, key, why)
	}
}

// TestSeal goes through the lives of a key: sealed late in a boot, as `tpm seal` does, it comes out early in the next, and in no other
// circumstances.
func TestSeal(t *testing.T) {
	c, other := newChip(t), newChip(t)
	key := bytes.Repeat([]byte("k"), 32)
	c.measure(SecureBoot, "on")
	c.cap()
	b, err := c.Seal(key, SecureBoot, Boot)
	if err != nil {
		t.Fatal(err)
	}
	loose, err := c.Seal(key, Boot)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b.Private, key) || bytes.Contains(b.Public, key) {
		t.Error("the key stands in the blob")
	}
	c.want(b, nil, ErrCapped)

	for range 2 {
		c.reset()
		c.measure(SecureBoot, "on")
		c.want(b, key, nil)
		c.want(b, key, nil)
		c.cap()
		c.want(b, nil, ErrCapped)
	}

	c.reset()
	c.measure(SecureBoot, "changed")
	c.want(b, nil, ErrChanged)
	c.want(loose, key, nil) // not bound to secure boot

	other.measure(SecureBoot, "on")
	other.want(b, nil, ErrForeign)
	other.want(loose, nil, ErrForeign)
	other.measure(SecureBoot, "on")

	c.reset()
	c.measure(SecureBoot, "on")
	if _, err := (tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHLockout, Auth: tpm2.PasswordAuth(nil)}}).Execute(c.TPM.t); err != nil {
		t.Fatal(err)
	}
	c.want(b, nil, ErrForeign)
	if maker, err := c.Maker(); err != nil || maker == "" {
		t.Errorf("maker %q, %v", maker, err)
	}
}

func TestSealRefuses(t *testing.T) {
	c := newChip(t)
	for name, f := range map[string]func() error{
		"no key":       func() error { _, err := c.Seal(nil, Boot); return err },
		"long key":     func() error { _, err := c.Seal(make([]byte, MaxKey+1), Boot); return err },
		"no register":  func() error { _, err := c.Seal([]byte("k")); return err },
		"out of order": func() error { _, err := c.Seal([]byte("k"), Boot, SecureBoot); return err },
		"empty blob":   func() error { _, err := c.Unseal(Blob{}); return err },
		"huge":         func() error { _, err := c.Unseal(Blob{PCRs: []uint{1 << 62}}); return err },
		"damaged blob": func() error {
			_, err := c.Unseal(Blob{Public: []byte{0, 1, 2}, Private: []byte{0xff, 0xff}, PCRs: []uint{Boot}})
			return err
		},
	} {
		if f() == nil {
			t.Errorf("%s: no error", name)
		}
	}
	// Nothing stays behind in the few places that a TPM has: this would fail after the third.
	for range 10 {
		if _, err := c.Seal([]byte("k"), Boot); err != nil {
			t.Fatal(err)
		}
	}
}

// A blob comes from a disk: whatever is in it, there is an error, and the TPM goes on.
func FuzzUnseal(f *testing.F) {
	if _, err := exec.LookPath("swtpm"); err != nil {
		f.Skip("swtpm is not installed: tools/need.sh tpm")
	}
	dir := f.TempDir()
	chip, err := tpmtest.Power(dir, false)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(chip.Cut)
	conn, err := linuxudstpm.Open(chip.Socket)
	if err != nil {
		f.Fatal(err)
	}
	t := &TPM{conn}
	b, err := t.Seal([]byte("key"), Boot)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b.Public, b.Private, uint(Boot))
	f.Add([]byte{0, 0}, []byte{0, 0}, uint(SecureBoot))
	f.Fuzz(func(_ *testing.T, public, private []byte, pcr uint) {
		t.Unseal(Blob{Public: public, Private: private, PCRs: []uint{pcr}})
	})
}
