package bootlog

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func boot(t *testing.T, dir, line string) *Log {
	t.Helper()
	l, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintln(l, line); err != nil {
		t.Fatal(err)
	}
	return l
}

func show(t *testing.T, dir string, boot int) string {
	t.Helper()
	var s strings.Builder
	if err := Show(&s, dir, boot); err != nil {
		t.Fatal(err)
	}
	return s.String()
}

func TestBoots(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	for n := range Boots + 3 {
		l := boot(t, dir, fmt.Sprintf("boot %d", n+1))
		if l.Number() != n+1 {
			t.Fatalf("number %d, want %d", l.Number(), n+1)
		}
		l.Close() // half of all boots end without
	}
	if got := show(t, dir, 0); got != fmt.Sprintf("boot %d\n", Boots+3) {
		t.Errorf("this boot: %q", got)
	}
	if got := show(t, dir, -1); got != fmt.Sprintf("boot %d\n", Boots+2) {
		t.Errorf("the boot before: %q", got)
	}
	numbers, err := List(dir)
	if err != nil || len(numbers) != Boots || numbers[0] != 4 {
		t.Errorf("kept: %v, %v", numbers, err)
	}
	if err := Show(nil, dir, -Boots); err == nil || !strings.Contains(err.Error(), "is not kept: there are 0 to -15") {
		t.Error(err)
	}
	if err := Show(nil, dir+"x", 0); err == nil || !strings.Contains(err.Error(), "no data partition") {
		t.Error(err)
	}
}

func TestLongJournalKeepsItsEnd(t *testing.T) {
	dir := t.TempDir()
	l := boot(t, dir, "first")
	line := strings.Repeat("x", 1023)
	for range 3 * maxHalf / 1024 {
		fmt.Fprintln(l, line)
	}
	fmt.Fprintln(l, "last")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	got := show(t, dir, 0)
	if strings.HasPrefix(got, "first") || !strings.HasSuffix(got, "last\n") || len(got) > 2*maxHalf || len(got) < maxHalf {
		t.Errorf("%d bytes kept, from %.10q to %q", len(got), got, got[len(got)-10:])
	}
	if _, err := l.Write([]byte("late\n")); err == nil {
		t.Error("writes after the end")
	}
}

func TestTakeCrash(t *testing.T) {
	dir, pstore := t.TempDir(), t.TempDir()
	boot(t, dir, "before the crash")
	l := boot(t, dir, "after it")
	if there, err := l.TakeCrash(pstore); there || err != nil {
		t.Errorf("no crash: %t, %v", there, err)
	}
	for name, text := range map[string]string{"dmesg-efi-2": "first half", "dmesg-efi-1": "Kernel panic"} {
		if err := os.WriteFile(filepath.Join(pstore, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if there, err := l.TakeCrash(pstore); !there || err != nil {
		t.Errorf("%t, %v", there, err)
	}
	if got := show(t, dir, -1); got != "before the crash\n--- the kernel's last words ---\nfirst half\nKernel panic\n" {
		t.Errorf("%q", got)
	}
	if left, _ := os.ReadDir(pstore); len(left) != 0 {
		t.Errorf("pstore still has %v", left)
	}
	if there, err := l.TakeCrash(filepath.Join(pstore, "none")); there || err != nil {
		t.Errorf("no pstore: %t, %v", there, err)
	}
}
