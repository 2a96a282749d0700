// Package tpm seals a key to the TPM 2.0 of the machine: what is sealed comes out again only of the same TPM, only while secure boot
// is as it was, and only before Cap was called, which PID 1 does before anybody can type anything.
package tpm

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
)

// Device is the kernel's resource manager for the TPM.
const Device = "/dev/tpmrm0"

// Registers (PCRs, in the SHA-256 bank) that a key can be bound to.
const (
	// SecureBoot has whether secure boot is on, its keys, and the certificate that has signed what was started (TCG PC Client Platform
	// Firmware Profile, 3.3.4.8). Two images signed with one key leave it the same.
	SecureBoot = 7
	// Boot is zero until Cap. The kernel, systemd-boot and its stub leave it alone.
	Boot = 15
)

// MaxKey is the most that is sealed, in bytes.
const MaxKey = 128

// Errors of Unseal.
var (
	// ErrNone: there is no TPM 2.0, or the firmware's setup has it off.
	ErrNone = errors.New("this machine has no TPM 2.0, or its firmware has it off")
	// ErrForeign: another TPM, or one that was cleared since.
	ErrForeign = errors.New("it was sealed by another TPM, or the TPM was cleared since")
	// ErrChanged: the registers are not what they were.
	ErrChanged = errors.New("secure boot is not as it was when it was sealed: switched on or off, or other keys")
	// ErrCapped: Cap was called since power-on.
	ErrCapped = errors.New("the TPM gives nothing out any more until the next start")
)

// Blob is a sealed key. It is no secret: only the TPM that made it can open it.
type Blob struct {
	Public  []byte `json:"public"`  // TPM2B_PUBLIC
	Private []byte `json:"private"` // TPM2B_PRIVATE
	PCRs    []uint `json:"pcrs"`    // that it is bound to, ascending
}

// registers is how many a PC's TPM has.
const registers = 24

// check is for blobs from a disk.
func (b Blob) check() error {
	for i, pcr := range b.PCRs {
		if pcr >= registers || i > 0 && pcr <= b.PCRs[i-1] {
			return fmt.Errorf("registers %v: want 0 to %d, ascending", b.PCRs, registers-1)
		}
	}
	if len(b.PCRs) == 0 {
		return errors.New("no register is named")
	}
	return nil
}

// TPM is an open one. It is not safe for concurrent use.
type TPM struct{ t transport.TPMCloser }

// Present tells whether the kernel has a TPM 2.0.
func Present() bool { _, err := os.Stat(Device); return err == nil }

// Open opens the machine's.
func Open() (*TPM, error) {
	t, err := linuxtpm.Open(Device)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNone
	}
	if err != nil {
		return nil, fmt.Errorf("TPM: %w", err)
	}
	return &TPM{t}, nil
}

// Close closes it.
func (t *TPM) Close() error { return t.t.Close() }

// Seal seals a key under the registers: SecureBoot as it is now, Boot as it is at power-on.
func (t *TPM) Seal(key []byte, pcrs ...uint) (Blob, error) {
	if len(key) == 0 || len(key) > MaxKey {
		return Blob{}, fmt.Errorf("seal: a key of %d bytes, want 1 to %d", len(key), MaxKey)
	}
	if err := (Blob{PCRs: pcrs}).check(); err != nil {
		return Blob{}, fmt.Errorf("seal: %w", err)
	}
	policy, err := t.policy(pcrs)
	if err != nil {
		return Blob{}, err
	}
	srk, done, err := t.parent()
	if err != nil {
		return Blob{}, err
	}
	defer done()
	made, err := tpm2.Create{
		ParentHandle: srk.auth(in),
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: key}),
		}},
		InPublic: tpm2.New2B(tpm2.TPMTPublic{
			Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256, AuthPolicy: tpm2.TPM2BDigest{Buffer: policy},
			// Without UserWithAuth there is no way but the policy; nobody can guess at it, so it does not count for the lockout.
			ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, NoDA: true},
		}),
	}.Execute(t.t)
	if err != nil {
		return Blob{}, fmt.Errorf("TPM: seal: %w", err)
	}
	return Blob{Public: tpm2.Marshal(made.OutPublic), Private: tpm2.Marshal(made.OutPrivate), PCRs: pcrs}, nil
}

// Unseal gives the key. See the errors of this package for why not.
func (t *TPM) Unseal(b Blob) ([]byte, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	public, err := tpm2.Unmarshal[tpm2.TPM2BPublic](b.Public)
	if err != nil {
		return nil, fmt.Errorf("TPM: the sealed key is damaged: %w", err)
	}
	private, err := tpm2.Unmarshal[tpm2.TPM2BPrivate](b.Private)
	if err != nil {
		return nil, fmt.Errorf("TPM: the sealed key is damaged: %w", err)
	}
	srk, done, err := t.parent()
	if err != nil {
		return nil, err
	}
	defer done()
	loaded, err := tpm2.Load{ParentHandle: srk.auth(), InPrivate: *private, InPublic: *public}.Execute(t.t)
	switch {
	case errors.Is(err, tpm2.TPMRCIntegrity):
		return nil, ErrForeign
	case err != nil:
		return nil, fmt.Errorf("TPM: load: %w", err)
	}
	defer t.flush(loaded.ObjectHandle)
	answer, err := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{
		Handle: loaded.ObjectHandle, Name: loaded.Name,
		Auth: tpm2.Policy(tpm2.TPMAlgSHA256, nonceSize, func(tr transport.TPM, session tpm2.TPMISHPolicy, _ tpm2.TPM2BNonce) error {
			_, err := tpm2.PolicyPCR{PolicySession: session, Pcrs: selection(b.PCRs)}.Execute(tr)
			return err
		}, srk.salted(out)...),
	}}.Execute(t.t)
	switch {
	case errors.Is(err, tpm2.TPMRCPolicyFail):
		if capped, capErr := t.Capped(); capErr == nil && capped {
			return nil, ErrCapped
		}
		return nil, ErrChanged
	case err != nil:
		return nil, fmt.Errorf("TPM: unseal: %w", err)
	}
	return answer.OutData.Buffer, nil
}

// capping is what Cap extends the register with.
var capping = sha256.Sum256([]byte("twinkeep: people may type now"))

// Cap ends the time in which keys bound to Boot come out; only a reset of the machine begins it anew.
func (t *TPM) Cap() error {
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: Boot, Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: capping[:]}}},
	}.Execute(t.t)
	if err != nil {
		return fmt.Errorf("TPM: extend PCR %d: %w", Boot, err)
	}
	return nil
}

// Capped tells whether Cap, or somebody else, has changed the register Boot since power-on.
func (t *TPM) Capped() (bool, error) {
	v, err := t.read(Boot)
	return err == nil && [sha256.Size]byte(v) != [sha256.Size]byte{}, err
}

// Maker is the manufacturer, four letters from the list of the TCG, e.g. "INTC".
func (t *TPM) Maker() (string, error) {
	const manufacturer = 0x105 // TPM_PT_MANUFACTURER
	c, err := tpm2.GetCapability{Capability: tpm2.TPMCapTPMProperties, Property: manufacturer, PropertyCount: 1}.Execute(t.t)
	if err != nil {
		return "", fmt.Errorf("TPM: %w", err)
	}
	p, err := c.CapabilityData.Data.TPMProperties()
	if err != nil || len(p.TPMProperty) == 0 {
		return "", errors.New("TPM: it does not say who made it")
	}
	v := p.TPMProperty[0].Value
	name := ""
	for _, c := range []byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)} {
		if c > ' ' && c < 0x7f {
			name += string(rune(c))
		}
	}
	return name, nil
}
