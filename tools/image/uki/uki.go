// Package uki puts a kernel, an initramfs, a command line and a description
// behind the stub of systemd: a unified kernel image, one EFI executable that
// firmware starts and secure boot signs as a whole.
//
// The format is the UAPI group's specification 5 (UKI): the pieces are sections
// of the PE file, .osrel, .cmdline, .initrd and .linux.
package uki

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"fmt"
)

// Parts of an image. All but Stub may be of any size, also empty.
type Parts struct {
	Stub      []byte // linuxx64.efi.stub of systemd
	OSRelease []byte // as in os-release(5)
	Cmdline   string // of the kernel; with secure boot nobody can change it
	Linux     []byte // bzImage
	Initrd    []byte
}

// Sections in the order they are appended. The kernel is last: it may use the
// memory behind itself.
const (
	SectionOSRelease = ".osrel"
	SectionCmdline   = ".cmdline"
	SectionInitrd    = ".initrd"
	SectionLinux     = ".linux"
)

// Offsets of the PE format (Microsoft's "PE Format", PE32+).
const (
	coffSections     = 2  // number of sections
	optInitialized   = 8  // size of initialized data
	optFileAlignment = 36 // of sections in the file
	optSizeOfImage   = 56
	optSizeOfHeaders = 60
	optCheckSum      = 64
	sectionHeader    = 40
	// readable, initialized data
	characteristics = 0x40000040
	page            = 4096
)

// Build assembles an image. The same parts give the same bytes.
func Build(p Parts) ([]byte, error) {
	f, err := pe.NewFile(bytes.NewReader(p.Stub))
	if err != nil {
		return nil, fmt.Errorf("stub: %w", err)
	}
	defer f.Close()
	if _, ok := f.OptionalHeader.(*pe.OptionalHeader64); !ok {
		return nil, fmt.Errorf("stub: not a 64-bit PE file")
	}
	coff := int(binary.LittleEndian.Uint32(p.Stub[0x3c:])) + 4
	opt := coff + 20
	table := opt + int(f.SizeOfOptionalHeader)
	out := bytes.Clone(p.Stub)
	le := binary.LittleEndian

	var va uint32
	for _, s := range f.Sections {
		va = max(va, s.VirtualAddress+s.VirtualSize)
	}
	add := []struct {
		name string
		data []byte
	}{
		{SectionOSRelease, p.OSRelease}, {SectionCmdline, []byte(p.Cmdline)}, {SectionInitrd, p.Initrd}, {SectionLinux, p.Linux},
	}
	if end := table + (int(f.NumberOfSections)+len(add))*sectionHeader; end > int(le.Uint32(out[opt+optSizeOfHeaders:])) {
		return nil, fmt.Errorf("stub: its headers have no room for %d more sections", len(add))
	}
	align := le.Uint32(out[opt+optFileAlignment:])
	if align == 0 || align&(align-1) != 0 || align > page {
		return nil, fmt.Errorf("stub: file alignment of %d", align)
	}
	for i, s := range add {
		if f.Section(s.name) != nil {
			return nil, fmt.Errorf("stub: has a section %s already", s.name)
		}
		va = up(va, page)
		out = append(out, make([]byte, up(uint32(len(out)), align)-uint32(len(out)))...)
		h := out[table+(int(f.NumberOfSections)+i)*sectionHeader:][:sectionHeader]
		clear(h)
		copy(h, s.name)
		size := up(uint32(len(s.data)), align)
		le.PutUint32(h[8:], uint32(len(s.data))) // VirtualSize: what the stub takes as the length
		le.PutUint32(h[12:], va)
		le.PutUint32(h[16:], size)
		le.PutUint32(h[20:], uint32(len(out)))
		le.PutUint32(h[36:], characteristics)
		out = append(out, s.data...)
		out = append(out, make([]byte, int(size)-len(s.data))...)
		va += uint32(len(s.data))
		le.PutUint32(out[opt+optInitialized:], le.Uint32(out[opt+optInitialized:])+size)
	}
	le.PutUint16(out[coff+coffSections:], f.NumberOfSections+uint16(len(add)))
	le.PutUint32(out[opt+optSizeOfImage:], up(va, page))
	le.PutUint32(out[opt+optCheckSum:], 0) // firmware does not look at it
	return out, nil
}

func up(n, align uint32) uint32 { return (n + align - 1) &^ (align - 1) }
