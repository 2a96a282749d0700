package uki

import (
	"bytes"
	"debug/pe"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/tools/image/uki/ukitest"
)

func TestBuild(t *testing.T) {
	p := Parts{Stub: ukitest.Stub(0x400), OSRelease: []byte("ID=twinkeep\n"), Cmdline: "quiet panic=5",
		Linux: bytes.Repeat([]byte("kernel"), 1000), Initrd: bytes.Repeat([]byte("initrd"), 100)}
	before := bytes.Clone(p.Stub)
	img, err := Build(p)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := Build(p); !bytes.Equal(img, again) || !bytes.Equal(before, p.Stub) {
		t.Error("not reproducible, or the stub was changed")
	}
	f, err := pe.NewFile(bytes.NewReader(img))
	if err != nil {
		t.Fatal(err)
	}
	end := uint32(0)
	for _, s := range f.Sections {
		if s.VirtualAddress < end || s.Offset%0x200 != 0 {
			t.Errorf("%s at %#x, offset %#x: overlaps or is not aligned", s.Name, s.VirtualAddress, s.Offset)
		}
		end = s.VirtualAddress + s.VirtualSize
	}
	if got := f.OptionalHeader.(*pe.OptionalHeader64).SizeOfImage; got < end {
		t.Errorf("size of image %#x, last section ends at %#x", got, end)
	}
	for name, want := range map[string]string{
		SectionOSRelease: string(p.OSRelease), SectionCmdline: p.Cmdline, SectionLinux: string(p.Linux), SectionInitrd: string(p.Initrd),
	} {
		s := f.Section(name)
		if s == nil {
			t.Errorf("no section %s", name)
			continue
		}
		data, err := s.Data()
		if err != nil || string(data[:s.VirtualSize]) != want {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	good, err := Build(Parts{Stub: ukitest.Stub(0x400)})
	if err != nil {
		t.Fatal(err)
	}
	for want, s := range map[string][]byte{
		"no room for":         ukitest.Stub(0x200),
		"stub:":               []byte("MZ"),
		"a section .osrel":    append(good[:0:0], good...),
		"file alignment of 0": func() []byte { b := ukitest.Stub(0x400); b[0x58+36], b[0x58+37] = 0, 0; return b }(),
	} {
		if _, err := Build(Parts{Stub: s}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
