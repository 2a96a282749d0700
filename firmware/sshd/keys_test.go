package sshd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/twinkeep/twinkeep/firmware/api"
)

func discard() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// example was made by ssh-keygen.
const example = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE8k0PxyYcqHIb7EQN7dfjJUs0pMGd7rAh2UIxS3ALnM"

func authorized(t *testing.T, key any) string {
	t.Helper()
	public, err := ssh.NewPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public)))
}

func TestParseKey(t *testing.T) {
	k, err := ParseKey("  " + example + " anna@\x1b[31mlaptop " + strings.Repeat("x", 500) + "\n")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(k.Comment, "anna@?[31mlaptop xxx") || len(k.Comment) > maxComment {
		t.Errorf("comment %q", k.Comment)
	}
	if again, err := ParseKey(k.line()); err != nil || again.line() != k.line() {
		t.Errorf("%q does not come back: %v", k.line(), err)
	}
	small, _ := rsa.GenerateKey(rand.Reader, 1024)
	good, _ := rsa.GenerateKey(rand.Reader, 2048)
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	for _, line := range []string{authorized(t, &p256.PublicKey), authorized(t, &good.PublicKey)} {
		if _, err := ParseKey(line); err != nil {
			t.Errorf("%.40s: %v", line, err)
		}
	}
	lines := map[string]string{
		"": "not a public key", "hello": "not a public key", "# comment": "not a public key", example[:40]: "not a public key",
		`from="10.0.0.1" ` + example: "options", example + "\n" + example: "one line", "-----BEGIN OPENSSH PRIVATE KEY-----": "private key",
		example + strings.Repeat(" x", maxLine): "at most",
	}
	if small != nil {
		lines[authorized(t, &small.PublicKey)] = "1024"
	}
	for line, want := range lines {
		if _, err := ParseKey(line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %q", line, err, want)
		}
	}
}

func TestKeyList(t *testing.T) {
	k := testKeeper(t)
	if _, err := k.addKey(example + " anna"); err != nil {
		t.Fatal(err)
	}
	status := func(err error) int {
		var e *api.Error
		errors.As(err, &e)
		if e == nil {
			return 0
		}
		return e.Status
	}
	if _, err := k.addKey(example + " again"); status(err) != 409 {
		t.Errorf("the same key twice: %v", err)
	}
	if _, err := k.addKey("nonsense"); status(err) != 400 {
		t.Errorf("nonsense: %v", err)
	}
	second := authorized(t, newKey(t).PublicKey().(ssh.CryptoPublicKey).CryptoPublicKey())
	if _, err := k.addKey(second + " anna"); err != nil {
		t.Fatal(err)
	}
	for which, want := range map[string]int{"anna": 409, "nobody": 404, "": 404} {
		if _, err := k.removeKey(which); status(err) != want {
			t.Errorf("remove %q: %v", which, err)
		}
	}
	key, err := ParseKey(second)
	if err != nil {
		t.Fatal(err)
	}
	if gone, err := k.removeKey(key.Fingerprint()); err != nil || gone.Fingerprint() != key.Fingerprint() {
		t.Errorf("%v, %v", gone, err)
	}
	path := filepath.Join(k.ConfigDir, AuthorizedFile)
	if text, err := os.ReadFile(path); err != nil || string(text) != example+" anna\n" {
		t.Errorf("%q, %v", text, err)
	}
	// A line that somebody broke is left out, and not lost.
	if err := os.WriteFile(path, []byte("# mine\n\nbroken\n"+example+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, faults, err := LoadKeys(k.ConfigDir)
	if len(keys) != 1 || len(faults) != 1 || err != nil || !strings.Contains(faults[0].Error(), "line 3") {
		t.Errorf("%v, %v, %v", keys, faults, err)
	}
	if _, err := k.addKey(second); status(err) != 409 {
		t.Errorf("the file is rewritten: %v", err)
	}
	if err := os.WriteFile(path, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if keys, _, err := LoadKeys(k.ConfigDir); err == nil || keys != nil {
		t.Error("a file without bounds is read")
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add(example + " anna")
	f.Add(`command="x" ` + example)
	f.Add("ecdsa-sha2-nistp256 AAAA")
	f.Fuzz(func(t *testing.T, line string) {
		k, err := ParseKey(line)
		if err != nil {
			return
		}
		again, err := ParseKey(k.line())
		if err != nil || again.line() != k.line() || strings.Count(k.line(), "\n") != 1 {
			t.Fatalf("%q becomes %q: %v", line, k.line(), err)
		}
	})
}
