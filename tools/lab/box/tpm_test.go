package box

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/hal/tpm/tpmtest"
)

// with switches the box on with the TPM of that name; a new name is a new chip.
func (l *life) with(name string) (off func()) {
	l.Helper()
	chip, err := tpmtest.Power(filepath.Join(l.cfg.Dir, name), true)
	l.must(err)
	l.cfg.TPM = chip.Socket
	l.Cleanup(chip.Cut)
	l.on()
	return func() { l.Helper(); l.cut(); chip.Cut() }
}

// setUp answers the questions of the first setup on a box with a TPM, and gives cluster key and recovery key.
func (l *life) setUp() (cluster, recovery string) {
	l.Helper()
	l.see(`First setup`)
	for _, step := range []struct{ see, answer string }{
		{`Member ID of this device \(1 to 8\) \[1\]: `, "1"}, {`Members in the cluster.*: `, ""}, {`Cluster ID.*: `, "7"}, {`Cluster key.*: `, ""},
		{`Registration interface.*: `, ""}, {`Management address.*: `, "10.1.0.2/24"}, {`Sync interface.*: `, ""}, {`Seal the secrets to the TPM.*\[yes\]: `, ""},
	} {
		l.see(step.see)
		l.must(l.Enter(step.answer))
	}
	cluster = l.see(`not shown again:\s+(\S{44})`)[1]
	l.see(`yes, or again: `)
	l.must(l.Enter("yes"))
	for _, see := range []string{`Admin password.*: `, `The same again: `} {
		l.see(see)
		l.must(l.Enter("correct horse"))
	}
	recovery = l.see(`Recovery key; write it down, it is not shown again:\s+(\S{39})`)[1]
	l.see(`(?s)saved and in force.*role assumed|role assumed.*saved and in force`)
	return cluster, recovery
}

// clean tells that the disk gives nothing away.
func (l *life) clean(secrets ...string) {
	l.Helper()
	raw, err := os.ReadFile(l.cfg.Disk)
	l.must(err)
	for _, s := range append(secrets, "Made by the first setup", "$argon2id$", "OPENSSH PRIVATE KEY-----\nb3") {
		if bytes.Contains(raw, []byte(s)) {
			l.Errorf("the disk holds %q", s)
		}
	}
}

// open waits for a start that finds everything.
func (l *life) opens() {
	l.Helper()
	l.see(`secrets: the secrets are open`)
	l.see(`role assumed`)
	l.must(l.Enter(""))
	l.login()
}

// TestTPM: the setup seals; the next start opens; the disk in another device gives nothing away, and the member stays closed until it is
// given the recovery key.
func TestTPM(t *testing.T) {
	t.Parallel()
	l := newLife(t, Variant{Revision: 100, Cmdline: quick}, false)
	off := l.with("chip")
	cluster, recovery := l.setUp()
	if out := l.command("tpm status"); !strings.Contains(out, "sealed to the TPM alone, for secure boot is off") {
		t.Errorf("%s", out)
	}
	off()
	l.clean(cluster)

	off = l.with("other")
	l.see(`THE SECRETS ARE LOCKED: it was sealed by another TPM`)
	l.see(`It stays closed: nothing runs but this console`)
	l.see(`Recovery key: `)
	if !strings.Contains(l.Said(), "init: ready console-tty1=ready console-ttyS0=ready at") {
		t.Error("more than consoles run")
	}
	l.must(l.Enter("correct horse"))
	l.see(`a recovery key has 32 letters and digits`)
	l.see(`Recovery key: `)
	l.must(l.Enter(strings.ToLower(recovery)))
	l.see(`sealed to this device as it is now. It restarts`)
	l.opens()
	if out := l.shell("cat /etc/twinkeep/node.yaml"); !strings.Contains(out, cluster) {
		t.Errorf("%s", out)
	}
	off()
	l.clean(cluster)
	if strings.Contains(l.Said(), recovery) {
		t.Error("the recovery key that was typed was shown")
	}
}

// TestTPMSecureBoot: sealed to secure boot, which is then switched off and on; an upgrade.
func TestTPMSecureBoot(t *testing.T) {
	t.Parallel()
	l := newLife(t, Variant{Revision: 100, Cmdline: quick, Sign: true}, true)
	off := l.with("chip")
	cluster, _ := l.setUp()
	if out := l.command("secureboot enrol"); !strings.Contains(out, "keys are in the firmware") {
		t.Fatalf("enrol: %s", out)
	}
	off()
	off = l.with("chip")
	l.opens()
	l.shell("echo by hand > /etc/twinkeep/note; sleep 5")
	if out := l.command("tpm status"); !strings.Contains(out, "not to secure boot, which was off then") {
		t.Errorf("%s", out)
	}
	if out := l.command("tpm seal"); !strings.Contains(out, "and to secure boot as it is now") || !strings.Contains(out, "as it was") {
		t.Errorf("%s", out)
	}
	off()

	on, err := os.ReadFile(l.cfg.VarsFile())
	l.must(err)
	l.must(l.cfg.Forget()) // secure boot is off
	off = l.with("chip")
	l.see(`THE SECRETS ARE LOCKED: secure boot is not as it was`)
	l.see(`Recovery key: `)
	off()

	// An upgrade that is signed with the same key changes nothing.
	l.must(os.WriteFile(l.cfg.VarsFile(), on, 0o600))
	l.offer(Variant{Revision: 200, Cmdline: quick, Sign: true})
	off = l.with("chip")
	l.opens()
	l.must(l.Enter("upgrade install /dev/vdb"))
	l.see(`on trial. This device restarts`)
	l.see(`init: on trial: b`)
	l.see(`secrets: the secrets are open`)
	l.see(`the image in slot B is permanent now: test-200`)
	l.must(l.Enter(""))
	l.login()
	if out := l.shell("cat /etc/twinkeep/node.yaml /etc/twinkeep/note"); !strings.Contains(out, cluster) || !strings.Contains(out, "by hand") {
		t.Errorf("%s", out)
	}
	off()
	l.clean(cluster)
}

// TestTPMUnseal: unsealed, started in the clear, sealed again while it runs, erased.
func TestTPMUnseal(t *testing.T) {
	t.Parallel()
	l := newLife(t, Variant{Revision: 100, Cmdline: quick}, false)
	off := l.with("chip")
	cluster, _ := l.setUp()
	if out := l.command("tpm unseal"); !strings.Contains(out, "in the clear") {
		t.Errorf("%s", out)
	}
	off()
	off = l.with("chip")
	l.see(`role assumed`)
	l.must(l.Enter(""))
	l.login()
	if out := l.shell("cat /data/config/node.yaml; ls /data/ssh"); !strings.Contains(out, cluster) || !strings.Contains(out, "host_ed25519") {
		t.Errorf("%s", out)
	}
	if out := l.command("tpm seal"); !strings.Contains(out, "Recovery key") {
		t.Errorf("%s", out)
	}
	off()
	off = l.with("chip")
	l.opens()
	l.must(l.Enter("factory-reset"))
	l.see(`Type erase`)
	l.must(l.Enter("erase"))
	l.see(`First setup`)
	off()
}

// TestTPMDrive: a drive that brings a node file and a recovery key. Without a TPM nothing of it is taken; with one the secrets never lie on the disk in the
// clear, and the key that came with the drive opens them in another device.
func TestTPMDrive(t *testing.T) {
	t.Parallel()
	const recovery = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	l := newLife(t, Variant{Revision: 100, Cmdline: quick}, false)
	l.drive(map[string]string{"node.yaml": node, "recovery": recovery + "\n"})
	l.on()
	l.see(`nothing was taken, for it asks to be sealed`)
	l.see(`First setup`)
	l.cut()

	const cluster = "bGFiLWxhYi1sYWItbGFiLWxhYi1sYWItbGFiLWxhYiE="
	off := l.with("chip")
	l.see(`the node file was taken from the drive /dev/vdb`)
	l.see(`role assumed`)
	off()
	l.clean(cluster, recovery)
	l.cfg.Second = ""
	off = l.with("chip")
	l.see(`secrets: the secrets are open`)
	l.see(`role assumed`)
	off()
	off = l.with("other")
	l.see(`THE SECRETS ARE LOCKED: it was sealed by another TPM`)
	l.see(`Recovery key: `)
	l.must(l.Enter(recovery))
	l.see(`sealed to this device as it is now. It restarts`)
	l.see(`secrets: the secrets are open`)
	l.see(`role assumed`)
	off()
	l.clean(cluster)
}
