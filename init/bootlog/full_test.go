package bootlog

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const mega = 1 << 20

// disk gives a folder on a file system of 8 MiB of its own, and what fills it until it is called again.
func disk(t *testing.T) (dir string, fill func() (room func())) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounts a file system: run it as root")
	}
	runtime.LockOSThread() // for good: the thread ends with the test
	dir = t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(unix.Unshare(unix.CLONE_NEWNS))
	must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(unix.Mount("disk", dir, "tmpfs", 0, "size=8m"))
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir, func() func() {
		name := filepath.Join(dir, "somebody's")
		f, err := os.Create(name)
		must(err)
		defer f.Close()
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
		return func() { must(os.Remove(name)) }
	}
}

// old leaves journals of earlier boots, of some size each.
func old(t *testing.T, dir string, boots, size int) {
	t.Helper()
	for n := range boots {
		if err := os.WriteFile(path(dir, n+1, ".log"), bytes.Repeat([]byte{'x'}, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func kept(t *testing.T, dir string) string {
	t.Helper()
	numbers, err := List(dir)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(numbers)
}

// Journals leave most of a small disk to others.
func TestShareOfTheDisk(t *testing.T) {
	dir, _ := disk(t)
	old(t, dir, 6, mega)
	boot(t, dir, "now")
	if got := kept(t, dir); got != "[5 6 7]" { // 2 MiB of 8
		t.Error(got)
	}
}

// On a full disk the journal goes on at the price of the oldest boots, and when there are none, as soon as there is room.
func TestFullDisk(t *testing.T) {
	dir, fill := disk(t)
	old(t, dir, 4, 256<<10)
	l := boot(t, dir, "first")
	room := fill()
	line := strings.Repeat("y", 1023)
	write := func(n int) (lost int) {
		for range n {
			if _, err := fmt.Fprintln(l, line); err != nil {
				lost++
			}
		}
		return lost
	}
	if lost := write(400); lost > 0 || kept(t, dir) != "[3 4 5]" {
		t.Errorf("%d lines lost, kept %s", lost, kept(t, dir))
	}
	if lost := write(2000); lost == 0 || kept(t, dir) != "[4 5]" {
		t.Errorf("%d lines lost, kept %s: the boot before this one is to stay", lost, kept(t, dir))
	}
	room()
	if lost := write(10); lost > 0 {
		t.Errorf("with room again %d lines lost", lost)
	}
	if got := show(t, dir, 0); !strings.HasPrefix(got, "first\n") {
		t.Errorf("the journal begins with %.10q", got)
	}
	// No file for the next half of the journal, and then one.
	if err := os.Rename(l.path(l.number, ".log"), l.path(l.number, ".old")); err != nil {
		t.Fatal(err)
	}
	l.size = maxHalf
	if lost := write(1); lost > 0 {
		t.Error("a journal that could not be turned stays silent")
	}
}

// A crash is kept whole or stays in the firmware.
func TestCrashOnAFullDisk(t *testing.T) {
	dir, fill := disk(t)
	pstore := t.TempDir()
	if err := os.WriteFile(filepath.Join(pstore, "dmesg-efi-1"), bytes.Repeat([]byte{'z'}, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	old(t, dir, 1, 4096)
	l := boot(t, dir, "after the crash")
	room := fill()
	if there, err := l.TakeCrash(pstore); there || err == nil || !strings.Contains(err.Error(), "in the firmware until there is room") {
		t.Errorf("%t, %v", there, err)
	}
	left, _ := os.ReadDir(pstore)
	if _, err := os.Stat(l.path(1, ".crash")); err == nil || len(left) != 1 {
		t.Errorf("half a crash is kept; the firmware has %v", left)
	}
	room()
	if there, err := l.TakeCrash(pstore); !there || err != nil {
		t.Errorf("with room: %t, %v", there, err)
	}
}
