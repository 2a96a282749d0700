package board

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// DMI is how the firmware of a machine names it. Either may be empty: virtual machines without SMBIOS and most ARM
// boards have none.
type DMI struct {
	Vendor  string // sys_vendor, e.g. "PC Engines"
	Product string // product_name, e.g. "apu2"
}

// ReadDMI reads the names from the sysfs mounted at root ("/sys"). Names that the firmware does not give are empty.
func ReadDMI(root string) (DMI, error) {
	read := func(name string) (string, error) {
		f, err := os.Open(filepath.Join(root, "class/dmi/id", name))
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		defer f.Close()
		text, err := io.ReadAll(io.LimitReader(f, 4096))
		return strings.TrimSpace(string(text)), err
	}
	vendor, err := read("sys_vendor")
	if err != nil {
		return DMI{}, fmt.Errorf("read DMI: %w", err)
	}
	product, err := read("product_name")
	if err != nil {
		return DMI{}, fmt.Errorf("read DMI: %w", err)
	}
	return DMI{Vendor: vendor, Product: product}, nil
}

// Select returns the board of a machine: the one built-in board of this architecture that matches its DMI strings, or
// the generic one if none does. It is what `board: auto` means.
func Select(dmi DMI) (*Board, error) {
	boards, err := All()
	if err != nil {
		return nil, err
	}
	return choose(boards, arch(), dmi)
}

// CmdlineKey in the kernel command line names the board, whatever the node file says.
const CmdlineKey = "twinkeep.board"

// Running returns the board of a running machine, as PID 1 chooses it: the one that the kernel command line names, else
// the one that the node file names, else Select's. Empty and "auto" name none.
func Running(cmdline, node string, dmi DMI) (*Board, error) {
	name := node
	for _, w := range strings.Fields(cmdline) {
		if k, v, ok := strings.Cut(w, "="); ok && k == CmdlineKey && v != "" {
			name = v
		}
	}
	if name == "" || name == "auto" {
		return Select(dmi)
	}
	return Named(name)
}

// Named returns the built-in board of that name; it is what `board: NAME` means.
func Named(name string) (*Board, error) {
	boards, err := All()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, b := range boards {
		if b.Name == name {
			return b, nil
		}
		names = append(names, b.Name)
	}
	return nil, fmt.Errorf("no board %q: there are auto, %s", name, strings.Join(names, ", "))
}

func choose(boards []*Board, arch string, dmi DMI) (*Board, error) {
	var specific, generic *Board
	for _, b := range boards {
		switch {
		case b.Arch != arch:
		case len(b.Match) == 0:
			generic = b
		case b.matches(dmi) && specific != nil:
			return nil, fmt.Errorf("machine %q %q matches the boards %s and %s: "+
				"name one of them with `board:` in the node file",
				dmi.Vendor, dmi.Product, specific.Name, b.Name)
		case b.matches(dmi):
			specific = b
		}
	}
	switch {
	case specific != nil:
		return specific, nil
	case generic != nil:
		return generic, nil
	}
	return nil, fmt.Errorf("no board for machine %q %q (%s), nor a generic one: add a board file",
		dmi.Vendor, dmi.Product, arch)
}

func (b *Board) matches(dmi DMI) bool {
	for _, m := range b.Match {
		if glob(m.Vendor, dmi.Vendor) && glob(m.Product, dmi.Product) {
			return true
		}
	}
	return false
}

// glob matches the whole of s against a pattern in which "*" stands for any text. path.Match will not do: its star
// stops at slashes, which product names contain.
func glob(pattern, s string) bool {
	if pattern == "" {
		return true
	}
	parts := strings.Split(strings.ToLower(pattern), "*")
	s = strings.ToLower(s)
	first, last := parts[0], parts[len(parts)-1]
	if len(parts) == 1 {
		return s == first
	}
	s, ok := strings.CutPrefix(s, first)
	if !ok || !strings.HasSuffix(s, last) {
		return false
	}
	s = strings.TrimSuffix(s, last)
	for _, part := range parts[1 : len(parts)-1] {
		_, rest, found := strings.Cut(s, part)
		if !found {
			return false
		}
		s = rest
	}
	return true
}

// arch is the architecture of this program as board files write it.
func arch() string {
	switch runtime.GOARCH {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	}
	return runtime.GOARCH
}
