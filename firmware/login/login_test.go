package login

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// hashed is of "correct horse", with less memory, so that the format is held fast.
const hashed = "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$"

func TestSetAndVerify(t *testing.T) {
	dir := t.TempDir()
	if line, err := Load(dir); line != "" || err != nil {
		t.Fatalf("%q, %v", line, err)
	}
	if err := Set(dir, "short"); !errors.Is(err, ErrShort) {
		t.Error(err)
	}
	if err := Set(dir, strings.Repeat("x", MaxLength+1)); err == nil {
		t.Error("a password without end is taken")
	}
	for _, password := range []string{"correct horse", "grüße an alle"} {
		if err := Set(dir, password); err != nil {
			t.Fatal(err)
		}
		line, err := Load(dir)
		if err != nil || strings.Contains(line, password) {
			t.Fatalf("%q, %v", line, err)
		}
		if err := Verify(line, password); err != nil {
			t.Error(err)
		}
		for _, wrong := range []string{"", "correct hors", password + "x", strings.Repeat("x", 10_000)} {
			if err := Verify(line, wrong); !errors.Is(err, ErrWrong) {
				t.Errorf("%q: %v", wrong, err)
			}
		}
	}
	info, err := os.Stat(filepath.Join(dir, FileName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if list, _ := os.ReadDir(dir); len(list) != 1 {
		t.Errorf("left behind: %v", list)
	}
}

// TestDamaged: a file that makes no sense lets nobody in.
func TestDamaged(t *testing.T) {
	dir := t.TempDir()
	for _, text := range []string{"", "x", hashed, strings.Repeat("$", 5000), "$argon2id$v=19$m=4000000000,t=1,p=1$c2FsdHNhbHRzYWx0$c2FsdHNhbHRzYWx0c2FsdHNhbHQ",
		"$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHRzYWx0$"} {
		if err := os.WriteFile(filepath.Join(dir, FileName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		line, err := Load(dir)
		if err != nil || line == "" || Verify(line, "") == nil {
			t.Errorf("%.40q: %.40q, %v", text, line, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	f.Add(hashed+"c2FsdHNhbHRzYWx0c2FsdA", "correct horse")
	f.Fuzz(func(t *testing.T, line, password string) {
		if len(line) > 200 || strings.Contains(line, "m=6") && !strings.Contains(line, "m=64,") {
			return // slow ones
		}
		Verify(line, password)
	})
}
