// Package tpmtest runs swtpm, a TPM 2.0 in software, for tests.
package tpmtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Chip is a TPM with the state in a folder, while it has power.
type Chip struct {
	Socket string
	cmd    *exec.Cmd
}

// Power switches one on: TPM commands go to Socket, or, for a machine of QEMU, its control commands. A new folder is a new TPM.
// Socket paths are short, so keep dir short.
func Power(dir string, forQEMU bool) (*Chip, error) {
	binary, err := exec.LookPath("swtpm")
	if err != nil {
		return nil, fmt.Errorf("%w: install it with: tools/need.sh tpm", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	c := &Chip{Socket: filepath.Join(dir, "sock")}
	os.Remove(c.Socket)
	args := []string{"socket", "--tpm2", "--tpmstate", "dir=" + dir}
	if forQEMU {
		args = append(args, "--ctrl", "type=unixio,path="+c.Socket, "--terminate") // with QEMU, however that ends
	} else {
		args = append(args, "--server", "type=unixio,path="+c.Socket, "--flags", "not-need-init,startup-clear")
	}
	c.cmd = exec.Command(binary, args...)
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(c.Socket); err == nil {
			return c, nil
		}
		if time.Now().After(end) {
			c.Cut()
			return nil, fmt.Errorf("swtpm does not listen on %s", c.Socket)
		}
	}
}

// Cut takes its power away. The registers are zero after the next Power.
func (c *Chip) Cut() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
}
