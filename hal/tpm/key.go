package tpm

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

const nonceSize = 16

// srk is the storage root key, made anew from the TPM's seed whenever it is needed: the same each time, and another one after the
// TPM was cleared.
type srk struct {
	handle tpm2.TPMHandle
	name   tpm2.TPM2BName
	public tpm2.TPMTPublic
}

// parent makes it; done takes it out of the TPM again.
func (t *TPM) parent() (k srk, done func(), err error) {
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(t.t)
	if errors.Is(err, tpm2.TPMRCBadAuth) || errors.Is(err, tpm2.TPMRCAuthFail) {
		return srk{}, nil, errors.New("the TPM's owner has set a password: clear the TPM in the firmware's setup")
	}
	if err != nil {
		return srk{}, nil, fmt.Errorf("TPM: storage root key: %w", err)
	}
	done = func() { t.flush(made.ObjectHandle) }
	public, err := made.OutPublic.Contents()
	if err != nil {
		done()
		return srk{}, nil, fmt.Errorf("TPM: storage root key: %w", err)
	}
	return srk{made.ObjectHandle, made.Name, *public}, done, nil
}

func (t *TPM) flush(h tpm2.TPMHandle) { tpm2.FlushContext{FlushHandle: h}.Execute(t.t) }

// What a session does besides: the first parameter to, or from, the TPM is encrypted.
var (
	in  = tpm2.AESEncryption(128, tpm2.EncryptIn)
	out = tpm2.AESEncryption(128, tpm2.EncryptOut)
)

// salted makes a session that who listens on the wires between CPU and TPM cannot follow.
func (k srk) salted(more ...tpm2.AuthOption) []tpm2.AuthOption {
	return append([]tpm2.AuthOption{tpm2.Salted(k.handle, k.public)}, more...)
}

func (k srk) auth(more ...tpm2.AuthOption) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: k.handle, Name: k.name, Auth: tpm2.HMAC(tpm2.TPMAlgSHA256, nonceSize, k.salted(more...)...)}
}

func selection(pcrs []uint) tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(pcrs...)}}}
}

// read gives a register.
func (t *TPM) read(pcr uint) ([]byte, error) {
	r, err := tpm2.PCRRead{PCRSelectionIn: selection([]uint{pcr})}.Execute(t.t)
	if err != nil {
		return nil, fmt.Errorf("TPM: read PCR %d: %w", pcr, err)
	}
	if len(r.PCRValues.Digests) != 1 || len(r.PCRValues.Digests[0].Buffer) != sha256.Size {
		return nil, errors.New("the TPM's SHA-256 registers are off: switch them on in the firmware's setup")
	}
	return r.PCRValues.Digests[0].Buffer, nil
}

// policy is the digest that TPM2_PolicyPCR leads to when the registers have the values that they shall have (TPM 2.0 Library, Part 3, 23.7).
func (t *TPM) policy(pcrs []uint) ([]byte, error) {
	h := sha256.New()
	for _, pcr := range pcrs {
		v, err := t.read(pcr)
		if err != nil {
			return nil, err
		}
		if pcr == Boot {
			v = make([]byte, sha256.Size)
		}
		h.Write(v)
	}
	c, err := tpm2.NewPolicyCalculator(tpm2.TPMAlgSHA256)
	if err != nil {
		return nil, err
	}
	if err := (tpm2.PolicyPCR{PcrDigest: tpm2.TPM2BDigest{Buffer: h.Sum(nil)}, Pcrs: selection(pcrs)}).Update(c); err != nil {
		return nil, err
	}
	return c.Hash().Digest, nil
}
