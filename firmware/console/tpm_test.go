package console

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/firmware/login"
	"github.com/twinkeep/twinkeep/firmware/secrets"
	"github.com/twinkeep/twinkeep/hal/tpm"
	"github.com/twinkeep/twinkeep/init/vault"
)

const fakeRecovery = "ABCD-EFGH-IJKL-MNOP-QRST-UVWX-YZ23-4567"

// fakeSecrets are those of a device with a TPM.
type fakeSecrets struct {
	mu     sync.Mutex
	st     secrets.Status
	calls  []string
	dir    string // the configuration must not be there when it is sealed for the first time
	spoilt bool
}

func (f *fakeSecrets) call(name string) {
	f.calls = append(f.calls, name)
}

func (f *fakeSecrets) Read() (secrets.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.st, nil
}

func (f *fakeSecrets) Locked() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.st.Locked
}

func (f *fakeSecrets) Seal(string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.call("seal")
	if !f.st.TPM {
		return "", tpm.ErrNone
	}
	if list, _ := os.ReadDir(f.dir); f.dir != "" && len(list) > 0 {
		f.spoilt = true
	}
	was := f.st.Sealed
	f.st.Sealed = true
	if was {
		return "", nil
	}
	return fakeRecovery, nil
}

func (f *fakeSecrets) Unseal() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.call("unseal")
	if !f.st.Sealed {
		return vault.ErrNone
	}
	f.st.Sealed = false
	return nil
}

func (f *fakeSecrets) NewRecovery() (string, error) {
	f.call("new recovery")
	return fakeRecovery, nil
}

func (f *fakeSecrets) Recover(key string) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.call("recover " + key)
	if key != fakeRecovery {
		return false, vault.ErrRecovery
	}
	f.st.Locked = ""
	return true, nil
}

// sealedOperator sits at the console of a device with these secrets.
func sealedOperator(t *testing.T, run, config string, f *fakeSecrets) *operator {
	t.Helper()
	in, keys := io.Pipe()
	o := &operator{screen: new(screen), t: t, keys: keys, end: func() { keys.Close() }, done: make(chan error, 1)}
	go func() {
		o.done <- Interactive(t.Context(), in, o.screen, Options{Run: run, Version: "0.1", Patience: 200 * time.Millisecond, ConfigDir: config, Secrets: f})
	}()
	t.Cleanup(o.end)
	return o
}

// shown is all that was on the screen.
func (o *operator) shown() string {
	o.screen.mu.Lock()
	defer o.screen.mu.Unlock()
	return o.screen.text.String()
}

// TestSetupSeals: the setup offers the TPM, and seals before there is anything on the disk.
func TestSetupSeals(t *testing.T) {
	run := newFakes(t).run
	for _, answer := range []string{"yes", "no"} {
		dir := t.TempDir()
		f := &fakeSecrets{st: secrets.Status{TPM: true}, dir: dir}
		o := sealedOperator(t, run, dir, f)
		for _, step := range []struct{ see, answer string }{
			{"Member ID", ""}, {"Members in the cluster", ""}, {"Cluster ID", "7"}, {"Cluster key", ""}, {"Registration interface", ""},
			{"Management address", "10.1.0.2/24"}, {"Sync interface", ""}, {"Seal the secrets to the TPM (yes or no) [yes]: ", "perhaps"},
			{"neither yes nor no", answer}, {"it is not shown again", "yes"}, {"at least 8 characters", "correct horse"}, {"The same again", "correct horse"},
			{"saved and in force", ""},
		} {
			o.expect(t, step.see)
			if step.answer != "" || step.see != "saved and in force" {
				o.types(step.answer + "\r")
			}
		}
		text := o.shown()
		if sealed := strings.Contains(text, fakeRecovery); sealed != (answer == "yes") || sealed != f.st.Sealed || sealed != strings.Contains(text, "sealed to the TPM of this device") {
			t.Errorf("%s: sealed %t, calls %v\n%s", answer, f.st.Sealed, f.calls, text)
		}
		if f.spoilt {
			t.Error("there were files before the vault")
		}
	}
}

// TestLockedConsole: nothing but the recovery key, a factory reset and a restart.
func TestLockedConsole(t *testing.T) {
	f := &fakeSecrets{st: secrets.Status{TPM: true, Sealed: true, Locked: "it was sealed by another TPM"}}
	o := sealedOperator(t, newFakes(t).run, t.TempDir(), f)
	o.expect(t, "LOCKED: it was sealed by another TPM")
	o.expect(t, "Recovery key: ")
	o.types("shell\r")
	o.expect(t, "not the recovery key")
	o.expect(t, "Recovery key: ")
	o.types(fakeRecovery + "\r")
	o.expect(t, "sealed to this device as it is now. It restarts")
	if text := o.shown(); strings.Contains(text, fakeRecovery) || strings.Contains(text, ":/>") || strings.Contains(text, "First setup") {
		t.Errorf("%s", text)
	}
}

func TestTPMCommands(t *testing.T) {
	dir := t.TempDir()
	run := func(f *fakeSecrets, args ...string) string {
		var b bytes.Buffer
		cmd := NewCommand(Options{Run: t.TempDir(), ConfigDir: dir, Secrets: f})
		cmd.SetOut(&b)
		cmd.SetErr(&b)
		cmd.SetArgs(args)
		PrintError(&b, cmd.Execute())
		return b.String()
	}
	f := &fakeSecrets{st: secrets.Status{TPM: true, Maker: "INTC"}}
	if out := run(f, "tpm", "seal"); !strings.Contains(out, "hint: set one first: password") || len(f.calls) > 0 {
		t.Errorf("without a password: %s%v", out, f.calls)
	}
	line, err := login.Hash("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, login.FileName), []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ args, want string }{
		{"status", "2.0, INTC"}, {"status", "in the clear on the disk; to seal them: tpm seal"}, {"unseal", "hint: seal them with: tpm seal"},
		{"seal", fakeRecovery}, {"status", "sealed to the TPM alone, for secure boot is off"}, {"seal", "The recovery key is as it was"},
		{"recovery-key", fakeRecovery}, {"unseal", "in the clear"}, {"status --json", `"sealed": false`},
	} {
		if out := run(f, append([]string{"tpm"}, strings.Fields(tt.args)...)...); !strings.Contains(out, tt.want) {
			t.Errorf("tpm %s: %s", tt.args, out)
		}
	}
	if out := run(new(fakeSecrets), "tpm", "seal"); !strings.Contains(out, "no TPM 2.0") || !strings.Contains(out, "firmware's setup") {
		t.Errorf("without a TPM: %s", out)
	}
	if hint := secrets.Hint(errors.New("x")); hint != "" {
		t.Errorf("hint %q", hint)
	}
}
