package data

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// DriveLabel is the volume label of a FAT file system, on a stick or a second
// disk, that brings the configuration of a box that has none.
const DriveLabel = "TWKCONFIG"

// nodeFile is what is taken from it, and when they are there: adminFile, the hash
// of the admin password, and recoveryFile, which asks for the secrets to be sealed
// to the TPM, with the recovery key in it.
const (
	nodeFile     = "node.yaml"
	adminFile    = "admin"
	recoveryFile = "recovery"
)

// Keeper keeps what a drive brings.
type Keeper interface {
	// Seal seals the secrets before there are any.
	Seal(recovery string) error
	// Write replaces a file durably.
	Write(path string, content []byte) error
}

// maxNodeFile bounds it in bytes.
const maxNodeFile = 1 << 20

const driveMount = "/run/twinkeep/drive"

// FromDrive takes the node file from a drive with DriveLabel if there is none in
// etc. It waits a little: sticks take seconds to appear. Whether the file is any
// good is for gatewayd to say. It returns the drive, or "" if there is none.
func FromDrive(etc string, patience time.Duration, probe func(), k Keeper) (string, error) {
	target := filepath.Join(etc, nodeFile)
	if _, err := os.Stat(target); !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	for end := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		probe()
		if device := findDrive("/sys/class/block", "/dev"); device != "" {
			return device, takeDrive(device, etc, k)
		}
		if time.Now().After(end) {
			return "", nil
		}
	}
}

func findDrive(sys, dev string) string {
	list, err := os.ReadDir(sys)
	if err != nil {
		return ""
	}
	for _, e := range list {
		device := filepath.Join(dev, e.Name())
		f, err := os.Open(device)
		if err != nil {
			continue
		}
		found := label(f)
		f.Close()
		if found == DriveLabel {
			return device
		}
	}
	return ""
}

// noName is the label in the boot sector of a file system whose label is in the root directory only.
const noName = "NO NAME"

// label is the volume label of a FAT file system, "" for anything else. It is in the boot sector: FAT32 has it at 71, FAT12 and FAT16 at 43. Windows
// leaves "NO NAME" there and writes the label into the root directory only (Microsoft's FAT32 specification, volume ID entries).
func label(r io.ReaderAt) string {
	boot := make([]byte, 512)
	if _, err := r.ReadAt(boot, 0); err != nil || boot[510] != 0x55 || boot[511] != 0xaa {
		return ""
	}
	var text string
	switch {
	case string(boot[82:87]) == "FAT32":
		text = string(boot[71:82])
	case string(boot[54:57]) == "FAT":
		text = string(boot[43:54])
	default:
		return ""
	}
	if text = strings.TrimRight(text, " "); text == noName {
		return rootLabel(r, boot)
	}
	return text
}

// rootLabel is the volume label in the first cluster of the root directory, where formatting puts it; "" without one.
func rootLabel(r io.ReaderAt, boot []byte) string {
	le := binary.LittleEndian
	sector, reserved, fats := int64(le.Uint16(boot[11:])), int64(le.Uint16(boot[14:])), int64(boot[16])
	begin, size := (reserved+fats*int64(le.Uint16(boot[22:])))*sector, int64(le.Uint16(boot[17:]))*32
	if size == 0 { // FAT32: the root directory is a chain of clusters
		cluster := int64(boot[13])
		begin = (reserved + fats*int64(le.Uint32(boot[36:])) + (int64(le.Uint32(boot[44:]))-2)*cluster) * sector
		size = cluster * sector
	}
	dir := make([]byte, min(max(size, 0), 64<<10))
	n, _ := r.ReadAt(dir, max(begin, 0))
	for ; n >= 32; n, dir = n-32, dir[32:] {
		const volumeID, longName = 0x08, 0x0f
		switch attr := dir[11] & 0x3f; {
		case dir[0] == 0:
			return ""
		case dir[0] != 0xe5 && attr != longName && attr&volumeID != 0:
			return strings.TrimRight(string(dir[:11]), " ")
		}
	}
	return ""
}

func takeDrive(device, etc string, k Keeper) error {
	files, err := readDrive(device)
	if err == nil {
		err = keep(files, etc, k)
	}
	if err != nil {
		return fmt.Errorf("configuration drive %s: %w", device, err)
	}
	return nil
}

// keep copies the files. Sealing is first: they never lie on the disk in the clear
// then, and where it fails nothing is taken. The password is before the node file:
// one without the password that came with it would be a device that is open.
func keep(files map[string][]byte, etc string, k Keeper) error {
	if recovery, ok := files[recoveryFile]; ok {
		if err := k.Seal(string(recovery)); err != nil {
			return fmt.Errorf("nothing was taken, for it asks to be sealed: %w", err)
		}
	}
	for _, name := range []string{adminFile, nodeFile} {
		if text, ok := files[name]; ok {
			if err := k.Write(filepath.Join(etc, name), text); err != nil {
				return err
			}
		}
	}
	return nil
}

func readDrive(device string) (map[string][]byte, error) {
	if err := os.MkdirAll(driveMount, 0o700); err != nil {
		return nil, err
	}
	if err := unix.Mount(device, driveMount, "vfat", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "iocharset=iso8859-1"); err != nil {
		return nil, fmt.Errorf("mount: %w", err)
	}
	defer unix.Unmount(driveMount, 0)
	return readFiles(driveMount)
}

// readFiles reads what a drive brings. The node file must be there.
func readFiles(dir string) (map[string][]byte, error) {
	files := make(map[string][]byte)
	for _, name := range []string{recoveryFile, adminFile, nodeFile} {
		f, err := os.Open(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) && name != nodeFile {
			continue
		}
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(io.LimitReader(f, maxNodeFile+1))
		f.Close()
		if err == nil && len(text) > maxNodeFile {
			err = fmt.Errorf("%s is larger than %d bytes", name, maxNodeFile)
		}
		if err != nil {
			return nil, err
		}
		files[name] = text
	}
	return files, nil
}
