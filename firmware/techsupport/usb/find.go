package usb

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Volume is a partition, or a disk without any.
type Volume struct {
	Name       string // e.g. "sdb1"
	Disk       string // e.g. "sdb"
	Filesystem string // vfat, ext4 (for ext2 and ext3, too); what else is there as text
	Model      string
	Size       int64 // bytes
	ReadOnly   bool  // the disk has a switch, and it is set
	Mounted    bool
}

// usable reports whether files can be written to it by this system.
func (v Volume) usable() bool { return v.Filesystem == "vfat" || v.Filesystem == "ext4" }

func (v Volume) String() string {
	text := fmt.Sprintf("%s (%s, %d MB, %s)", v.Name, cmp.Or(v.Model, "no model"), v.Size/1e6, cmp.Or(v.Filesystem, "no file system"))
	return strings.Map(func(r rune) rune { // the model is what the stick says
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
}

// headSize is how much of a volume tells its file system, in bytes.
const headSize = 4096

// Filesystem tells a file system by the first bytes of a volume; empty: none that is known.
func Filesystem(head []byte) string {
	at := func(off int, text string) bool {
		return len(head) >= off+len(text) && string(head[off:off+len(text)]) == text
	}
	switch {
	case at(3, "EXFAT   "):
		return "exFAT, which is not supported"
	case at(3, "NTFS    "):
		return "NTFS, which is not supported"
	case len(head) >= 512 && head[510] == 0x55 && head[511] == 0xaa && (at(82, "FAT32") || at(54, "FAT12") || at(54, "FAT16")):
		return "vfat"
	case len(head) >= 1082 && binary.LittleEndian.Uint16(head[1080:]) == 0xef53:
		return "ext4"
	case at(0, "LUKS\xba\xbe"):
		return "encrypted"
	}
	return ""
}

// Find lists the volumes of removable disks: those whose medium can be taken out, and all on USB. The disk the system runs from is none.
func Find(running string) ([]Volume, error) {
	return find("/sys", "/dev", "/proc/self/mounts", running)
}

func find(sys, dev, mounts, running string) ([]Volume, error) {
	list, err := os.ReadDir(filepath.Join(sys, "block"))
	if err != nil {
		return nil, fmt.Errorf("list disks: %w", err)
	}
	busy, err := os.ReadFile(mounts)
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	var out []Volume
	for _, e := range list {
		dir := filepath.Join(sys, "block", e.Name())
		real, err := filepath.EvalSymlinks(dir)
		removable := number(dir, "removable") == 1 || err == nil && strings.Contains(real, "/usb")
		if !removable || e.Name() == running || strings.HasPrefix(e.Name(), "sr") || number(dir, "size") == 0 { // an optical drive, a reader without a card
			continue
		}
		disk := Volume{Name: e.Name(), Disk: e.Name(), Model: text(dir, "device/model"), Size: number(dir, "size") * 512, ReadOnly: number(dir, "ro") == 1}
		volumes := partitions(dir, disk)
		if len(volumes) == 0 {
			volumes = []Volume{disk}
		}
		for _, v := range volumes {
			v.Filesystem = probe(filepath.Join(dev, v.Name))
			v.Mounted = slices.ContainsFunc(strings.Split(string(busy), "\n"), func(line string) bool { return strings.HasPrefix(line, filepath.Join(dev, v.Name)+" ") })
			out = append(out, v)
		}
	}
	return out, nil
}

func partitions(dir string, disk Volume) (out []Volume) {
	list, _ := os.ReadDir(dir) // a disk that has just been taken out has none
	for _, e := range list {
		part := filepath.Join(dir, e.Name())
		if _, err := os.Stat(filepath.Join(part, "partition")); err != nil {
			continue
		}
		v := disk
		v.Name, v.Size = e.Name(), number(part, "size")*512
		out = append(out, v)
	}
	return out
}

func text(dir, name string) string {
	data, _ := os.ReadFile(filepath.Join(dir, name)) // not all disks have all
	return strings.TrimSpace(string(data))
}

func number(dir, name string) int64 {
	n, _ := strconv.ParseInt(text(dir, name), 10, 64)
	return n
}

func probe(device string) string {
	f, err := os.Open(device)
	if err != nil {
		return "cannot be read"
	}
	defer f.Close()
	head := make([]byte, headSize)
	n, err := io.ReadFull(f, head)
	if n == 0 && err != nil {
		return "cannot be read"
	}
	return Filesystem(head[:n])
}

// Choose gives the volume to write to: the one that is named, or the only one there is.
func Choose(all []Volume, name string) (Volume, error) {
	name = strings.TrimPrefix(name, "/dev/")
	var fits, others []Volume
	for _, v := range all {
		if name != "" && v.Name != name && v.Disk != name {
			continue
		}
		if v.usable() {
			fits = append(fits, v)
		} else {
			others = append(others, v)
		}
	}
	switch {
	case len(all) == 0:
		return Volume{}, &Error{"there is no removable disk", "plug a USB stick with a FAT or ext4 file system in, wait some seconds, and try again"}
	case len(fits)+len(others) == 0:
		return Volume{}, &Error{fmt.Sprintf("%.40q is no removable disk", name), "there are " + names(all)}
	case len(fits) == 0:
		return Volume{}, &Error{"no file system that can be written to: " + names(others), "format the stick with FAT32 or ext4"}
	case len(fits) > 1:
		return Volume{}, &Error{"there are several removable volumes: " + names(fits), "name one: --usb=" + fits[0].Name}
	case fits[0].ReadOnly:
		return Volume{}, &Error{fits[0].String() + " is write-protected", "move its switch, or take another stick"}
	case fits[0].Mounted:
		return Volume{}, &Error{fits[0].String() + " is mounted already", "unmount it, or write to where it is mounted: techsupport FILE"}
	}
	return fits[0], nil
}

func names(list []Volume) string {
	var out []string
	for _, v := range list {
		out = append(out, v.String())
	}
	return strings.Join(out, ", ")
}

// Error says what is wrong with a disk, and what to do.
type Error struct{ Text, Hint string }

// Error gives both.
func (e *Error) Error() string { return e.Text + ": " + e.Hint }
