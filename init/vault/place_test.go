package vault

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// chip is a Sealer that is good for the box with the right number.
type chip struct{ box int }

func (c chip) Seal(key []byte) (json.RawMessage, error) {
	return json.Marshal(map[string]any{"box": c.box, "key": key})
}

var errOther = errors.New("another box")

func (c chip) Unseal(b json.RawMessage) ([]byte, error) {
	var v struct {
		Box int    `json:"box"`
		Key []byte `json:"key"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, err
	}
	if v.Box != c.box {
		return nil, errOther
	}
	return v.Key, nil
}

// role in the environment makes this test a process with mounts of its own: one life of a box between two restarts.
const role = "VAULT_TEST_LIFE"

func TestMain(m *testing.M) {
	if life := os.Getenv(role); life != "" {
		if err := lives[life](at(os.Args[1])); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// at is a box below dir.
func at(dir string) Place {
	d := filepath.Join(dir, "data")
	return Place{Data: d, Run: filepath.Join(dir, "run"), Trees: []Tree{{"config", filepath.Join(dir, "etc"), "config"}, {"ssh", d + "/ssh", "ssh"}}}
}

// box makes one with secrets in the clear.
func box(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounts: run it as root")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"data/config/node.yaml": "key: secret", "data/config/policy-keys/a.pub": "public", "data/ssh/host_ed25519": "private", "data/ha/term": "7", "etc/brought": "by the image",
	} {
		must(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// process starts a life; what is in memory and mounted ends with it.
func process(t *testing.T, dir, life string) *exec.Cmd {
	t.Helper()
	must(t, os.RemoveAll(filepath.Join(dir, "run")))
	must(t, os.Mkdir(filepath.Join(dir, "run"), 0o700))
	cmd := exec.Command(os.Args[0], dir)
	cmd.Env = append(os.Environ(), role+"="+life)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	return cmd
}

func live(t *testing.T, dir, life string) {
	t.Helper()
	if out, err := process(t, dir, life).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", life, err, out)
	}
}

// want compares a file.
func want(path, text string) error {
	b, err := os.ReadFile(path)
	if err == nil && string(b) != text {
		err = fmt.Errorf("%s has %q, want %q", path, b, text)
	}
	return err
}

// whole tells whether all secrets are where they are expected.
func whole(p Place, node string) error {
	return errors.Join(want(p.Trees[0].Dir+"/node.yaml", node), want(p.Trees[0].Dir+"/policy-keys/a.pub", "public"), want(p.Trees[1].Dir+"/host_ed25519", "private"))
}

// start is what PID 1 does.
func start(p Place) (bool, error) {
	opened, err := p.Open(chip{1})
	if errors.Is(err, errErased) {
		err = nil
	}
	if err == nil && !opened {
		err = exec.Command("mount", "--bind", p.Data+"/config", p.Trees[0].Dir).Run()
	}
	return opened, err
}

const recovery = "ABCD-EFGH-IJKL-MNOP-QRST-UVWX-YZ23-4567"

// lives are what happens between two restarts.
var lives = map[string]func(Place) error{
	"seal": func(p Place) error {
		if _, err := start(p); err != nil {
			return err
		}
		if err := p.Seal(chip{1}, recovery); err != nil {
			return err
		}
		return errors.Join(whole(p, "key: secret"), p.Write(p.Trees[0].Dir+"/node.yaml", []byte("key: newer")), whole(p, "key: newer"))
	},
	"sealed": func(p Place) error {
		opened, err := start(p)
		if err != nil || !opened {
			return fmt.Errorf("opened %t: %w", opened, err)
		}
		if err := p.Seal(chip{1}, recovery); !errors.Is(err, ErrExists) {
			return fmt.Errorf("sealed twice: %v", err)
		}
		y := Syncer{Place: p}
		if changed, err := y.Sync(); err != nil || !changed { // "brought"
			return fmt.Errorf("what the image brings is not in the vault: %v", err)
		}
		by := p.Trees[0].Dir + "/by-hand"
		if err := os.WriteFile(by, []byte("x"), 0o600); err != nil {
			return err
		}
		if changed, err := y.Sync(); err != nil || !changed {
			return fmt.Errorf("a change by hand is not found: %v", err)
		}
		if changed, err := y.Sync(); err != nil || changed {
			return fmt.Errorf("a change where none is: %v", err)
		}
		return errors.Join(whole(p, "key: newer"), p.Reseal(chip{1}, ""))
	},
	"other": func(p Place) error { // the disk in another box
		if _, err := p.Open(chip{2}); !errors.Is(err, errOther) {
			return fmt.Errorf("another box: %v", err)
		}
		s, err := p.State()
		if err != nil || len(s.Key) > 0 || !strings.Contains(s.Why, errOther.Error()) {
			return fmt.Errorf("state %v, %v", s, err)
		}
		if err := p.Unseal(); !errors.Is(err, errLocked) {
			return fmt.Errorf("a locked vault was unsealed: %v", err)
		}
		if err := p.Recover(chip{2}, "AAAA"+recovery[4:]); !errors.Is(err, ErrRecovery) {
			return fmt.Errorf("another recovery key: %v", err)
		}
		if err := want(p.Trees[0].Dir+"/node.yaml", ""); err == nil {
			return errors.New("there is a node file")
		}
		return nil
	},
	"recover": func(p Place) error {
		if _, err := p.Open(chip{2}); err == nil {
			return errors.New("it opens")
		}
		return p.Recover(chip{1}, strings.ToLower(recovery))
	},
	"recover without a TPM": func(p Place) error {
		if _, err := p.Open(chip{2}); err == nil {
			return errors.New("it opens")
		}
		return p.Recover(nil, recovery)
	},
	"unseal": func(p Place) error {
		if opened, err := start(p); err != nil || !opened {
			return fmt.Errorf("opened %t: %w", opened, err)
		}
		if err := errors.Join(want(p.Trees[0].Dir+"/by-hand", "x"), p.Unseal(), whole(p, "key: newer")); err != nil {
			return err
		}
		return p.Write(p.Trees[0].Dir+"/node.yaml", []byte("key: secret"))
	},
	"clear": func(p Place) error {
		opened, err := start(p)
		if err == nil && (opened || p.Exists()) {
			err = errors.New("there is a vault")
		}
		return errors.Join(err, whole(p, "key: secret"))
	},
	"clear, newer": func(p Place) error {
		_, err := start(p)
		return errors.Join(err, whole(p, "key: newer"))
	},
	"erased": func(p Place) error {
		if opened, err := p.Open(chip{1}); !opened || !errors.Is(err, errErased) {
			return fmt.Errorf("opened %t: %w", opened, err)
		}
		return whole(p, "key: newer")
	},
	"to and fro": func(p Place) error {
		if _, err := start(p); err != nil {
			return err
		}
		for {
			var err error
			if p.Exists() {
				err = p.Unseal()
			} else {
				err = p.Seal(chip{1}, recovery)
			}
			if err := errors.Join(err, whole(p, "key: secret")); err != nil {
				return err
			}
		}
	},
	"after a cut": func(p Place) error {
		_, err := start(p)
		if temps, _ := filepath.Glob(p.Data + "/.secrets*"); len(temps) > 0 {
			err = errors.Join(err, fmt.Errorf("left behind: %v", temps))
		}
		return errors.Join(err, whole(p, "key: secret"))
	},
}

// onDisk are the files in the clear.
func onDisk(t *testing.T, dir string) (out []string) {
	t.Helper()
	for _, tree := range []string{"config", "ssh"} {
		files, err := collect(filepath.Join(dir, "data", tree), tree)
		must(t, err)
		for _, f := range files {
			out = append(out, f.Path)
		}
	}
	return out
}

// TestLives: sealed, started again, changed, moved to another box, recovered, unsealed.
func TestLives(t *testing.T) {
	dir := box(t)
	live(t, dir, "clear")
	live(t, dir, "seal")
	if left := onDisk(t, dir); len(left) > 0 {
		t.Errorf("on the disk in the clear: %v", left)
	}
	must(t, want(dir+"/data/ha/term", "7"))
	for _, life := range []string{"sealed", "other", "recover", "unseal", "clear"} {
		live(t, dir, life)
	}
	live(t, dir, "seal")
	// A sealing that lost its power before it had taken the files away.
	must(t, os.WriteFile(dir+"/data/config/node.yaml", []byte("old"), 0o600))
	live(t, dir, "other")
	live(t, dir, "erased")
	live(t, dir, "recover without a TPM")
	live(t, dir, "clear, newer")
}

// TestCuts ends a process that seals and unseals without a pause, at random moments: all secrets are there at the next start.
func TestCuts(t *testing.T) {
	dir := box(t)
	vaults := 0
	for range 40 {
		cmd := process(t, dir, "to and fro")
		out := new(strings.Builder)
		cmd.Stdout = out
		must(t, cmd.Start())
		time.Sleep(20*time.Millisecond + time.Duration(rand.IntN(200_000))*time.Microsecond)
		cmd.Process.Kill()
		if err := cmd.Wait(); out.Len() > 0 {
			t.Fatalf("%v: %s", err, out)
		}
		if _, err := os.Stat(dir + "/data/secrets.vault"); err == nil {
			vaults++
		}
		live(t, dir, "after a cut")
		if _, err := os.Stat(dir + "/data/secrets.vault"); err == nil && len(onDisk(t, dir)) > 0 {
			t.Fatalf("beside the vault, in the clear: %v", onDisk(t, dir))
		}
	}
	t.Logf("%d cuts left a vault", vaults)
}

// Without a vault Write is a plain replacement.
func TestWritePlain(t *testing.T) {
	dir := t.TempDir()
	p := Place{Data: dir, Run: dir + "/none", Trees: []Tree{{"config", dir, "config"}}}
	for _, text := range []string{"one", "two"} {
		must(t, p.Write(dir+"/file", []byte(text)))
		must(t, want(dir+"/file", text))
	}
	if list, _ := os.ReadDir(dir); len(list) != 1 {
		t.Errorf("left behind: %v", list)
	}
}
