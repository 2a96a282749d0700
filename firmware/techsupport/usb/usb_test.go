package usb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestChoose(t *testing.T) {
	stick := Volume{Name: "sdb1", Disk: "sdb", Filesystem: "vfat", Model: "Ultra\x1b[2J Fit", Size: 16e9}
	second := Volume{Name: "sdc1", Disk: "sdc", Filesystem: "ext4", Size: 8e9}
	ntfs := Volume{Name: "sdd1", Disk: "sdd", Filesystem: "NTFS, which is not supported"}
	locked, mounted := stick, stick
	locked.ReadOnly, mounted.Mounted = true, true
	for _, c := range []struct {
		all        []Volume
		name, want string
		err        string
	}{
		{[]Volume{stick}, "", "sdb1", ""}, {[]Volume{stick, ntfs}, "", "sdb1", ""}, {[]Volume{stick, second}, "sdc1", "sdc1", ""}, {[]Volume{stick, second}, "/dev/sdc", "sdc1", ""},
		{nil, "", "", "no removable disk"}, {nil, "sdb1", "", "no removable disk"}, {[]Volume{stick}, "sda1", "", `"sda1" is no removable disk`}, {[]Volume{ntfs}, "", "", "NTFS, which is not supported"},
		{[]Volume{stick, second}, "", "", "several removable volumes: sdb1 (Ultra?[2J Fit, 16000 MB, vfat), sdc1 (no model, 8000 MB, ext4): name one: --usb=sdb1"},
		{[]Volume{locked}, "", "", "write-protected"}, {[]Volume{mounted}, "", "", "mounted already"},
	} {
		got, err := Choose(c.all, c.name)
		if got.Name != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%v %q: %v %v, want %q %q", c.all, c.name, got, err, c.want, c.err)
		}
	}
}

// TestFind: sticks and disks on USB are found with their file systems, built-in disks, the one that runs, empty readers are not.
func TestFind(t *testing.T) {
	root := t.TempDir()
	put := func(name, content string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	disk := func(name, place, removable, size string) {
		t.Helper()
		dir := "sys/devices/" + place + "/block/" + name
		put(dir+"/removable", removable+"\n")
		put(dir+"/size", size+"\n")
		put(dir+"/ro", "0\n")
		put(dir+"/device/model", "Model "+name+"  \n")
		os.MkdirAll(filepath.Join(root, "sys/block"), 0o755)
		if err := os.Symlink(filepath.Join(root, dir), filepath.Join(root, "sys/block", name)); err != nil {
			t.Fatal(err)
		}
	}
	part := func(place, disk, name string) {
		put("sys/devices/"+place+"/block/"+disk+"/"+name+"/partition", "1\n")
		put("sys/devices/"+place+"/block/"+disk+"/"+name+"/size", "2048\n")
	}
	disk("sda", "pci0/ata1", "0", "1000000")
	part("pci0/ata1", "sda", "sda1")
	disk("sdb", "pci0/usb1/1-1", "1", "4096")
	part("pci0/usb1/1-1", "sdb", "sdb1")
	part("pci0/usb1/1-1", "sdb", "sdb2")
	disk("sdc", "pci0/usb2/2-1", "0", "8192") // a disk on USB says that it is fixed
	disk("sdd", "pci0/usb1/1-2", "1", "0")
	disk("sde", "pci0/usb1/1-3", "1", "4096")
	fat := make([]byte, 4096)
	copy(fat[54:], "FAT16   ")
	fat[510], fat[511] = 0x55, 0xaa
	put("dev/sdb1", string(fat))
	put("dev/sdb2", strings.Repeat("\x00", 4096))
	put("dev/sdc", strings.Repeat("\x00", 1080)+"\x53\xef"+strings.Repeat("\x00", 3000))
	put("mounts", "/dev/sda1 / ext4 rw 0 0\n"+filepath.Join(root, "dev/sdc")+" /mnt ext4 rw 0 0\n")
	got, err := find(filepath.Join(root, "sys"), filepath.Join(root, "dev"), filepath.Join(root, "mounts"), "sde")
	want := "[sdb1 (Model sdb, 1 MB, vfat) sdb2 (Model sdb, 1 MB, no file system) sdc (Model sdc, 4 MB, ext4)]"
	if err != nil || fmt.Sprint(got) != want || got[0].Mounted || !got[2].Mounted {
		t.Errorf("%v %v", got, err)
	}
}

// FuzzFilesystem: no volume makes trouble.
func FuzzFilesystem(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, headSize))
	f.Fuzz(func(t *testing.T, head []byte) { _ = Volume{Filesystem: Filesystem(head)}.String() })
}

// loop makes a volume of a file, with a file system of mkfs.
func loop(t *testing.T, size string, readOnly bool, mkfs ...string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for loop devices")
	}
	run := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil {
			t.Skipf("a volume with a file system cannot be made here: %s: %v\n%s", args[0], err, out)
		}
		return strings.TrimSpace(string(out))
	}
	file := filepath.Join(t.TempDir(), "stick")
	run("truncate", "-s", size, file)
	run(append(mkfs, file)...)
	setup := []string{"losetup", "-f", "--show"}
	if readOnly {
		setup = append(setup, "-r")
	}
	device := run(append(setup, file)...)
	t.Cleanup(func() { exec.Command("losetup", "-d", device).Run() })
	return device
}

// TestWrite: on the kernel's FAT and ext4 the file arrives whole, under a name of its own, and nothing stays mounted.
func TestWrite(t *testing.T) {
	content := bytes.Repeat([]byte("evidence\n"), 50000)
	for filesystem, mkfs := range map[string][]string{"vfat": {"mkfs.vfat", "-F", "16"}, "ext4": {"mkfs.ext4", "-q"}} {
		t.Run(filesystem, func(t *testing.T) {
			if known, _ := os.ReadFile("/proc/filesystems"); !strings.Contains(string(known), filesystem) && exec.Command("modprobe", filesystem).Run() != nil {
				t.Skipf("this kernel has no %s", filesystem)
			}
			device := loop(t, "16M", false, mkfs...)
			if got := probe(device); got != filesystem {
				t.Fatalf("%q on the device", got)
			}
			for _, want := range []string{"gw-a.tar.gz", "gw-a-2.tar.gz"} {
				got, err := write(device, filesystem, "gw-a.tar.gz", func(w io.Writer) error {
					_, err := w.Write(content)
					return err
				})
				if err != nil || got != want {
					t.Fatalf("%q %v, want %q", got, err, want)
				}
			}
			if _, err := write(device, filesystem, "broken.tar.gz", func(w io.Writer) error {
				w.Write(content)
				return io.ErrUnexpectedEOF
			}); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Error(err)
			}
			var full *Error
			if _, err := write(device, filesystem, "full.tar.gz", func(w io.Writer) error {
				for {
					if _, err := w.Write(content); err != nil {
						return err
					}
				}
			}); !errors.As(err, &full) || !strings.Contains(full.Text, "is full") {
				t.Error(err)
			}
			mounts, _ := os.ReadFile("/proc/self/mounts")
			if strings.Contains(string(mounts), device+" ") {
				t.Errorf("still mounted:\n%s", mounts)
			}
			for name, data := range onVolume(t, device, filesystem) {
				if !bytes.Equal(data, content) || name != "gw-a.tar.gz" && name != "gw-a-2.tar.gz" {
					t.Errorf("%s with %d bytes is there", name, len(data))
				}
			}
		})
	}
}

// onVolume reads the files of a volume.
func onVolume(t *testing.T, device, filesystem string) map[string][]byte {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount(device, dir, filesystem, unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, 0)
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for _, e := range list {
		if !e.IsDir() {
			out[e.Name()], _ = os.ReadFile(filepath.Join(dir, e.Name()))
		}
	}
	if len(out) != 2 {
		t.Errorf("%d files on %s", len(out), device)
	}
	return out
}

// TestWriteRefused: a write-protected disk, and one without the file system it seemed to have.
func TestWriteRefused(t *testing.T) {
	for want, device := range map[string]string{"write-protected": loop(t, "4M", true, "mkfs.ext4", "-q"), "damaged": loop(t, "4M", false, "true")} {
		_, err := write(device, "ext4", "x.tar.gz", func(io.Writer) error { return nil })
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
