// Package secrets seals the vault of a box (package init/vault) to its TPM.
package secrets

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/twinkeep/twinkeep/firmware/secureboot"
	"github.com/twinkeep/twinkeep/hal/tpm"
	"github.com/twinkeep/twinkeep/init/vault"
)

// Status of the TPM and of what is sealed to it.
type Status struct {
	TPM        bool   `json:"tpm"`             // there is one
	Maker      string `json:"maker,omitempty"` // of the TPM
	Sealed     bool   `json:"sealed"`
	Locked     string `json:"locked,omitempty"` // sealed, and why it does not open
	SecureBoot bool   `json:"secure_boot"`      // sealed to the state of secure boot too
	On         bool   `json:"secure_boot_on"`   // secure boot is on now
}

// Box is the vault and the TPM of this box.
type Box struct{}

// Sealer seals to the machine's TPM: to secure boot as it is now where it is on, else to the TPM alone.
type Sealer struct{}

var _ vault.Sealer = Sealer{}

// Seal is that of vault.Sealer.
func (Sealer) Seal(key []byte) (json.RawMessage, error) {
	t, err := tpm.Open()
	if err != nil {
		return nil, err
	}
	defer t.Close()
	on, err := secureboot.Read("")
	if err != nil {
		return nil, err
	}
	pcrs := []uint{tpm.Boot}
	if on.Enabled {
		pcrs = []uint{tpm.SecureBoot, tpm.Boot}
	}
	b, err := t.Seal(key, pcrs...)
	if err != nil {
		return nil, err
	}
	return json.Marshal(b)
}

// Unseal is that of vault.Sealer.
func (Sealer) Unseal(text json.RawMessage) ([]byte, error) {
	var b tpm.Blob
	if err := json.Unmarshal(text, &b); err != nil {
		return nil, vault.ErrDamaged
	}
	t, err := tpm.Open()
	if err != nil {
		return nil, err
	}
	defer t.Close()
	return t.Unseal(b)
}

// Start is for PID 1, once a boot and before any console: it opens the vault, if there is one, and then has the TPM give nothing out
// any more until the next start. It tells what the operator should know.
func Start(say func(format string, args ...any)) {
	opened, err := vault.Box.Open(Sealer{})
	if tpm.Present() {
		if err := shut(); err != nil {
			say("%v; a program on this box could ask the TPM for the key of the secrets", err)
		}
	}
	switch {
	case err != nil && !opened:
		say("THE SECRETS ARE LOCKED: %v.\nThis member stays closed. The recovery key opens it, factory-reset begins anew; both on the console", err)
	case opened:
		if err != nil {
			say("%v", err)
		}
		say("the secrets are open")
	}
}

func shut() error {
	t, err := tpm.Open()
	if err != nil {
		return err
	}
	defer t.Close()
	return t.Cap()
}

// Seal makes the vault and gives its recovery key; with a recovery key, that is taken. Where a vault is open it is sealed anew, to
// secure boot as it is now, and the recovery key stays: "".
func (Box) Seal(recovery string) (string, error) {
	if !tpm.Present() {
		return "", tpm.ErrNone
	}
	if vault.Box.Exists() {
		return "", vault.Box.Reseal(Sealer{}, recovery)
	}
	if recovery == "" {
		recovery = vault.NewRecovery()
	}
	return recovery, vault.Box.Seal(Sealer{}, recovery)
}

// NewRecovery replaces the recovery key of an open vault.
func (Box) NewRecovery() (string, error) {
	r := vault.NewRecovery()
	return r, vault.Box.Reseal(Sealer{}, r)
}

// Recover opens a locked vault with its recovery key, for the next start: sealed to the TPM as it is now, or in the clear where there is
// no TPM any more. It tells which.
func (Box) Recover(recovery string) (sealed bool, err error) {
	if !tpm.Present() {
		return false, vault.Box.Recover(nil, recovery)
	}
	return true, vault.Box.Recover(Sealer{}, recovery)
}

// Unseal puts the secrets on the disk in the clear.
func (Box) Unseal() error { return vault.Box.Unseal() }

// Read gives the status.
func (Box) Read() (Status, error) {
	s := Status{TPM: tpm.Present(), Sealed: vault.Box.Exists()}
	if s.TPM {
		t, err := tpm.Open()
		if err != nil {
			return s, err
		}
		defer t.Close()
		if s.Maker, err = t.Maker(); err != nil {
			return s, err
		}
	}
	on, err := secureboot.Read("")
	if err != nil {
		return s, err
	}
	s.On = on.Enabled
	if !s.Sealed {
		return s, nil
	}
	state, err := vault.Box.State()
	if err != nil {
		return s, err
	}
	if len(state.Key) == 0 {
		s.Locked = state.Why
		if s.Locked == "" {
			s.Locked = "it was not opened at this start"
		}
	}
	h, err := vault.Box.Header()
	var b tpm.Blob
	if err == nil {
		err = json.Unmarshal(h.Sealed, &b)
	}
	if err != nil {
		return s, fmt.Errorf("the vault: %w", err)
	}
	s.SecureBoot = slices.Contains(b.PCRs, tpm.SecureBoot)
	return s, nil
}

// Locked tells why the secrets of this box do not open; "" when they do, or are not sealed.
func (Box) Locked() string {
	s, err := vault.Box.State()
	return strings.TrimSpace(s.Why + text(err))
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Hint is what an operator can do about an error of this package.
func Hint(err error) string {
	switch {
	case errors.Is(err, tpm.ErrNone):
		return "switch it on in the firmware's setup, where it may be called PTT, fTPM or security chip"
	case errors.Is(err, vault.ErrNone):
		return "seal them with: tpm seal"
	}
	return ""
}
