package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/init/vault"
)

// tpmDevice is there when the kernel has found a TPM 2.0.
const tpmDevice = "/dev/tpmrm0"

// secretsLimit bounds the work with the TPM, which is a slow device.
const secretsLimit = time.Minute

// openSecrets opens the vault, and ends the time in which the TPM gives out its
// key: before any console. PID 1 leaves the work to a program that may fail.
func (m *machine) openSecrets() error {
	if _, err := os.Stat(tpmDevice); errors.Is(err, fs.ErrNotExist) && !vault.Box.Exists() {
		return nil
	}
	out, err := secretsProgram("start", nil)
	for line := range strings.Lines(out) {
		m.complain("secrets: %s", strings.TrimSpace(line))
	}
	if s, stateErr := vault.Box.State(); err == nil && stateErr == nil && vault.Box.Exists() && len(s.Key) == 0 && s.Why == "" {
		err = errors.New("it has said nothing")
	}
	if err != nil && vault.Box.Exists() && !m.locked() {
		err = errors.Join(err, vault.Box.Lock(err.Error()))
	}
	return err
}

// locked tells whether the secrets are sealed and do not open. Then nothing runs
// but consoles, which ask for the recovery key.
func (m *machine) locked() bool {
	if !vault.Box.Exists() {
		return false
	}
	s, err := vault.Box.State()
	return err != nil || len(s.Key) == 0
}

// keepSecrets keeps what was changed in a shell while no gatewayd ran, as in
// failsafe.
func keepSecrets() error {
	_, err := (&vault.Syncer{Place: vault.Box}).Sync()
	return err
}

func secretsProgram(verb string, in io.Reader) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), secretsLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, twinkeep, "secrets", verb)
	var out, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &stderr
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return out.String(), nil
}

// keeper keeps what a configuration drive brings.
type keeper struct{}

func (keeper) Seal(recovery string) error {
	_, err := secretsProgram("seal", strings.NewReader(recovery))
	return err
}

func (keeper) Write(path string, content []byte) error { return vault.Write(path, content) }
