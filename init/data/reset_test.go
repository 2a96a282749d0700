package data

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// partition is a real ext4 on a loop device, in a mount namespace of the test's own.
type partition struct {
	*testing.T
	file string
	ext4
	said strings.Builder
}

func newPartition(t *testing.T, mkfs ...string) *partition {
	if os.Geteuid() != 0 {
		t.Skip("mounts a file system: run it as root")
	}
	runtime.LockOSThread() // for good: the thread ends with the test
	p := &partition{T: t, file: filepath.Join(t.TempDir(), "image")}
	p.must(unix.Unshare(unix.CLONE_NEWNS))
	p.must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	p.must(os.WriteFile(p.file, nil, 0o600))
	p.must(os.Truncate(p.file, 16<<20))
	p.run("mke2fs", append(append([]string{"-q", "-F", "-t", "ext4", "-m", "1", "-J", "size=4"}, mkfs...), p.file)...)
	p.ext4 = ext4{dir: t.TempDir(), say: func(f string, a ...any) { fmt.Fprintf(&p.said, f+"\n", a...) }}
	p.attach()
	return p
}

// attach gives the file a loop device.
func (p *partition) attach(flags ...string) {
	p.Helper()
	device := p.run("losetup", append(flags, "-f", "--show", p.file)...)
	p.device = device
	p.Cleanup(func() {
		unix.Unmount(p.dir, unix.MNT_DETACH)
		exec.Command("losetup", "-d", device).Run()
	})
}

func (p *partition) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

func (p *partition) run(name string, args ...string) string {
	p.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		p.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// bring does what PID 1 does at a boot.
func (p *partition) bring() (Condition, Outcome, error) {
	p.Helper()
	f, err := os.Open(p.device)
	p.must(err)
	defer f.Close()
	head := make([]byte, HeadSize)
	_, err = f.ReadAt(head, 0)
	p.must(err)
	c := Inspect(head)
	if c == Unfinished {
		return c, Outcome{}, nil
	}
	o, err := Bring(c, p.ext4, p.say)
	return c, o, err
}

func (p *partition) unmount() {
	p.Helper()
	p.must(unix.Unmount(p.dir, 0))
}

// fill leaves not a byte.
func (p *partition) fill() {
	p.Helper()
	f, err := os.Create(filepath.Join(p.dir, "filler"))
	p.must(err)
	defer f.Close()
	for size := 1 << 20; size > 0; size /= 2 {
		for b := make([]byte, size); err == nil; {
			if _, err = f.Write(b); err == nil {
				err = f.Sync()
			}
		}
		err = nil
	}
}

// A factory reset that was asked for comes about, whatever the file system is like.
func TestAskReset(t *testing.T) {
	for name, spoil := range map[string]func(*partition){
		"full":            func(p *partition) { p.fill() },
		"no inodes":       nil,
		"read-only":       func(p *partition) { p.must(unix.Mount("", p.dir, "", unix.MS_REMOUNT|unix.MS_RDONLY|mountFlags, "")) },
		"not there":       func(p *partition) { p.unmount() },
		"as it should be": func(*partition) {},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPartition(t, "-N", "16")
			if c, o, err := p.bring(); c != Clean || o != (Outcome{}) || err != nil {
				t.Fatal(c, o, err)
			}
			if spoil != nil {
				spoil(p)
			} else {
				var err error
				for i := 0; err == nil; i++ {
					err = os.WriteFile(filepath.Join(p.dir, fmt.Sprint(i)), nil, 0o600)
				}
			}
			p.must(askReset(p.dir, p.device))
			if name != "read-only" && name != "not there" { // the superblock is written again
				os.Remove(filepath.Join(p.dir, "0"))
				p.must(os.WriteFile(filepath.Join(p.dir, "more"), nil, 0o600))
				unix.Sync()
			}
			if name != "not there" {
				p.unmount()
			}
			c, _, err := p.bring()
			p.must(err)
			_, err = os.Stat(filepath.Join(p.dir, ResetFile))
			if want := name == "full" || name == "as it should be"; (err == nil) != want || (c == Unfinished) == want {
				t.Errorf("at the next boot: %v, the file: %v", c, err)
			}
		})
	}
	p := newPartition(t)
	p.run("losetup", "-d", p.device)
	p.attach("-r")
	if err := askReset(p.dir, p.device); err == nil || !strings.Contains(err.Error(), "nothing is erased") {
		t.Errorf("on a disk that cannot be written: %v", err)
	}
}

// A disk that has become write-protected still gives its configuration, and is not called lost.
func TestWriteProtected(t *testing.T) {
	p := newPartition(t)
	_, _, err := p.bring()
	p.must(err)
	etc := t.TempDir()
	p.must(os.Mkdir(filepath.Join(p.dir, ConfigDir), 0o700))
	p.must(os.WriteFile(filepath.Join(p.dir, ConfigDir, "node.yaml"), []byte("kept"), 0o600))
	p.unmount()
	p.run("losetup", "-d", p.device)
	p.attach("-r")
	if _, o, err := p.bring(); err != nil || o != (Outcome{ReadOnly: true}) {
		t.Fatalf("%+v, %v", o, err)
	}
	if said := p.said.String(); !strings.Contains(said, "replace the disk") || strings.Contains(said, "lost") {
		t.Error(said)
	}
	if got := room(p.dir); !strings.Contains(got, "cannot be written") {
		t.Errorf("the operator reads %q", got)
	}
	// The image brings a file that the disk has not.
	p.must(os.WriteFile(filepath.Join(etc, "new.yaml"), nil, 0o600))
	if err := config(p.dir, etc); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Error(err)
	}
	defer unix.Unmount(etc, unix.MNT_DETACH)
	if b, err := os.ReadFile(filepath.Join(etc, "node.yaml")); string(b) != "kept" {
		t.Errorf("%q, %v", b, err)
	}
}

// A full one too.
func TestFullDisk(t *testing.T) {
	p := newPartition(t)
	_, _, err := p.bring()
	p.must(err)
	etc := t.TempDir()
	p.must(os.Mkdir(filepath.Join(p.dir, ConfigDir), 0o700))
	p.must(os.WriteFile(filepath.Join(p.dir, ConfigDir, "node.yaml"), []byte("kept"), 0o600))
	if got := room(p.dir); got != "" {
		t.Errorf("with room: %q", got)
	}
	p.fill()
	if got := room(p.dir); !strings.Contains(got, "full") {
		t.Errorf("the operator reads %q", got)
	}
	p.must(os.WriteFile(filepath.Join(etc, "new.yaml"), []byte(strings.Repeat("x", 8192)), 0o600))
	if err := config(p.dir, etc); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Error(err)
	}
	defer unix.Unmount(etc, unix.MNT_DETACH)
	if b, err := os.ReadFile(filepath.Join(etc, "node.yaml")); string(b) != "kept" {
		t.Errorf("%q, %v", b, err)
	}
	if left, err := filepath.Glob(filepath.Join(etc, "*.new")); len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A file system that is new is created again after a power cut until it is finished; from then on a torn superblock is repaired by a copy of it.
func TestTornSuperblock(t *testing.T) {
	p := newPartition(t)
	p.run("losetup", "-d", p.device)
	p.must(os.Truncate(p.file, 160<<20)) // two groups. On a box it grows to that; here that takes a capability which not every test machine gives
	p.run("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-J", "size=4", p.file)
	p.attach()
	template, err := os.ReadFile(p.file)
	p.must(err)
	f, err := os.OpenFile(p.device, os.O_RDWR, 0)
	p.must(err)
	defer f.Close()
	p.must(writeTemplate(f, template))
	p.must(p.Mount())
	tear := func() Condition {
		head := make([]byte, HeadSize)
		_, err := f.ReadAt(head, 0)
		p.must(err)
		clear(head[superblock+512 : superblock+1024])
		p.must(flushed(f, head[superblock:superblock+1024], superblock))
		return Inspect(head)
	}
	if c := tear(); c != Unfinished {
		t.Errorf("before it is finished: %v", c)
	}
	p.unmount()
	p.must(writeTemplate(f, template))
	p.must(p.Mount())
	p.must(p.finish())
	p.must(writeDurably(filepath.Join(p.dir, "kept"), []byte("kept")))
	p.unmount()
	if c := tear(); c != Clean {
		t.Errorf("afterwards: %v", c)
	}
	if _, o, err := p.bring(); err != nil || !o.Repaired || o.Lost {
		t.Fatalf("%+v, %v\n%s", o, err, p.said.String())
	}
	if b, err := os.ReadFile(filepath.Join(p.dir, "kept")); string(b) != "kept" {
		t.Errorf("%q, %v", b, err)
	}
}
