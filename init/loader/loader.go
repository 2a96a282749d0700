// Package loader reads what the boot loader left in the firmware's variables:
// which entry it started, from which partition, and whether it counted the try.
//
// The variables are those of systemd's boot loader interface
// (https://systemd.io/BOOT_LOADER_INTERFACE). They are volatile, so they work
// where firmware forgets variables; without them everything is empty.
package loader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf16"
)

// Vars is where the kernel shows the firmware's variables.
const Vars = "/sys/firmware/efi/efivars"

const vendor = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

// Info is what the loader says.
type Info struct {
	Entry     string // file name of the entry, e.g. "b.conf"; with systemd-boot 252 as it was before it was counted
	Partition string // GUID of the partition the loader was started from, lower case
	// CountPath is the file of the entry with its count, with slashes; empty when
	// the entry is not counted. An entry that is counted is on trial.
	CountPath string
}

// Read reads the variables below dir. That there are none is no error.
func Read(dir string) (Info, error) {
	var i Info
	var errs []error
	for name, to := range map[string]*string{
		"LoaderEntrySelected": &i.Entry, "LoaderDevicePartUUID": &i.Partition, "LoaderBootCountPath": &i.CountPath,
	} {
		b, err := os.ReadFile(filepath.Join(dir, name+"-"+vendor))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			*to, err = text(b)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("variable %s: %w", name, err))
		}
	}
	i.Partition = strings.ToLower(i.Partition)
	i.CountPath = strings.ReplaceAll(i.CountPath, `\`, "/")
	return i, errors.Join(errs...)
}

// maxText bounds a variable in bytes.
const maxText = 4096

// text reads a variable: four bytes of attributes, then UTF-16 with a NUL.
func text(b []byte) (string, error) {
	if len(b) < 4 || len(b) > maxText || len(b)%2 != 0 {
		return "", fmt.Errorf("%d bytes are no text", len(b))
	}
	var u []uint16
	for b = b[4:]; len(b) > 0; b = b[2:] {
		c := binary.LittleEndian.Uint16(b)
		if c == 0 {
			break
		}
		u = append(u, c)
	}
	return string(utf16.Decode(u)), nil
}
