package kernel

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/twinkeep/twinkeep/init/module"
)

func TestParseWanted(t *testing.T) {
	got, err := ParseWanted(strings.NewReader("# comment\n\nboot nf_tables # why\nhardware r8169 needs realtek\ndemand i2c-i801\n"))
	want := []Wanted{
		{Kind: module.Boot, Name: "nf_tables"},
		{Kind: module.Hardware, Name: "r8169", Needs: []string{"realtek"}},
		{Kind: module.Demand, Name: "i2c_i801"},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
	for text, want := range map[string]string{
		"\nnever a":          `line 2: "never" is not`,
		"boot":               "line 1: want KIND NAME",
		"boot a after b":     "line 1: want KIND NAME",
		"boot a needs":       "line 1: want KIND NAME",
		"boot a-b\nlate a_b": "line 2: a_b is already on line 1",
	} {
		if _, err := ParseWanted(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q in it", text, err, want)
		}
	}
}

func TestParseModinfo(t *testing.T) {
	got := parseModinfo([]byte("license=GPL\x00depends=a,b\x00softdep=pre: c d post: e\x00alias=pci:v*\x00alias=x\x00\x00broken\x00"))
	want := modinfo{depends: []string{"a", "b"}, softpre: []string{"c", "d"}, aliases: []string{"pci:v*", "x"}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(modinfo{})); diff != "" {
		t.Error(diff)
	}
	if got := parseModinfo([]byte("depends=\x00")); got.depends != nil {
		t.Errorf("no dependencies: %q", got.depends)
	}
}

// ko makes the smallest ELF file that has a .modinfo section.
func ko(info string) []byte {
	const names = "\x00.modinfo\x00.shstrtab\x00"
	var b bytes.Buffer
	h := elf.Header64{Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: 64, Shentsize: 64, Shnum: 3, Shstrndx: 2}
	copy(h.Ident[:], elf.ELFMAG+"\x02\x01\x01")
	h.Shoff = uint64(64 + len(info) + len(names))
	binary.Write(&b, binary.LittleEndian, h)
	b.WriteString(info + names)
	binary.Write(&b, binary.LittleEndian, []elf.Section64{{},
		{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: 64, Size: uint64(len(info))},
		{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: uint64(64 + len(info)), Size: uint64(len(names))}})
	return b.Bytes()
}

// tree is a modules folder as a package has it.
func tree(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func zst(p []byte) []byte {
	e, _ := zstd.NewWriter(nil)
	return e.EncodeAll(p, nil)
}

func gz(p []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(p)
	w.Close()
	return b.Bytes()
}

func TestSelect(t *testing.T) {
	dir := tree(t, map[string][]byte{
		"modules.builtin":                 []byte("kernel/net/packet/af_packet.ko\nkernel/crypto/sha-x.ko\n"),
		"kernel/net/nf_tables.ko":         ko("depends=nfnetlink,libcrc32c\x00alias=nfnetlink-subsys-10\x00"),
		"kernel/net/nfnetlink.ko.zst":     zst(ko("depends=\x00")),
		"kernel/lib/libcrc32c.ko.gz":      gz(ko("depends=\x00softdep=pre: crc32c\x00")),
		"kernel/crypto/crc32c_generic.ko": ko("alias=crypto-crc32c\x00"),
		"kernel/net/r8169.ko":             ko("depends=sha_x\x00softdep=pre: nowhere\x00"),
		"kernel/net/phy/realtek.ko":       ko(""),
		"kernel/net/unrelated.ko":         ko(""),
	})
	sel, err := Select(t.Context(), dir, []Wanted{
		{Kind: module.Boot, Name: "nf_tables"},
		{Kind: module.Boot, Name: "af_packet"},
		{Kind: module.Hardware, Name: "r8169", Needs: []string{"realtek"}},
		{Kind: module.Boot, Name: "nfnetlink"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := module.Index{
		{Name: "nfnetlink", Kind: module.Boot, File: "nfnetlink.ko"},
		{Name: "crc32c_generic", Kind: module.Demand, File: "crc32c_generic.ko", Aliases: []string{"crypto-crc32c"}},
		{Name: "libcrc32c", Kind: module.Demand, File: "libcrc32c.ko", Needs: []string{"crc32c_generic"}},
		{Name: "nf_tables", Kind: module.Boot, File: "nf_tables.ko", Needs: []string{"nfnetlink", "libcrc32c"}, Aliases: []string{"nfnetlink-subsys-10"}},
		{Name: "realtek", Kind: module.Demand, File: "realtek.ko"},
		{Name: "r8169", Kind: module.Hardware, File: "r8169.ko", Needs: []string{"realtek"}},
	}
	if diff := cmp.Diff(want, sel.Index); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"af_packet"}, sel.Builtin); diff != "" {
		t.Error(diff)
	}
	for _, f := range sel.Files {
		if !bytes.HasPrefix(f.Data, []byte("\x7fELF")) {
			t.Errorf("%s is not uncompressed", f.Name)
		}
	}
	_, err = Select(t.Context(), dir, []Wanted{{Kind: module.Boot, Name: "zfs"}})
	if err == nil || !strings.Contains(err.Error(), "module zfs (wanted by the list) is neither in "+dir) {
		t.Errorf("missing module: %v", err)
	}
}

// A cache can hold the same version for two architectures.
func TestPackagesOfArchitecture(t *testing.T) {
	dir := tree(t, map[string][]byte{"boot_1_amd64.deb": nil, "boot_1_arm64.deb": nil, "boot_1_amd64/x": nil})
	if diff := cmp.Diff([]string{filepath.Join(dir, "boot_1_arm64.deb")}, packages(filepath.Join(dir, "boot_1_*"), "arm64")); diff != "" {
		t.Error(diff)
	}
	dir = tree(t, map[string][]byte{"source_1_all.deb": nil})
	if got := packages(filepath.Join(dir, "source_1_*.deb"), "amd64"); len(got) != 1 {
		t.Errorf("package of all architectures: %q", got)
	}
	if arch, err := architecture(t.Context()); err != nil || strings.ContainsAny(arch, "'= \n") {
		t.Errorf("architecture %q, %v", arch, err)
	}
}

// bzImage wraps a payload as the kernel's build does.
func bzImage(payload []byte) []byte {
	const sects, offset = 3, 0x100
	b := make([]byte, (sects+1)*512+offset)
	b[0x1f1] = sects
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x206:], 0x20f)
	binary.LittleEndian.PutUint32(b[0x248:], offset)
	binary.LittleEndian.PutUint32(b[0x24c:], uint32(len(payload)))
	return append(b, payload...)
}

func TestVmlinux(t *testing.T) {
	kernel := append([]byte("\x7fELF"), bytes.Repeat([]byte("kernel"), 1000)...)
	size := binary.LittleEndian.AppendUint32(nil, uint32(len(kernel)))
	for name, payload := range map[string][]byte{
		"zstd": append(zst(kernel), size...),
		"gzip": gz(kernel), // carries the size itself
		"none": kernel,
	} {
		got, err := Vmlinux(t.Context(), bzImage(payload))
		if err != nil || !bytes.Equal(got, kernel) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	short := bzImage(kernel)
	old := bzImage(kernel)
	old[0x206], old[0x207] = 7, 2
	for want, image := range map[string][]byte{
		"no HdrS":                   make([]byte, 4096),
		"cut short":                 short[:len(short)-1],
		"older than 2.08":           old,
		"unknown compression":       bzImage([]byte("what is this?")),
		"the result is no ELF file": bzImage(append(zst([]byte("text")), 0, 0, 0, 0)),
	} {
		if _, err := Vmlinux(t.Context(), image); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
}

func TestOptions(t *testing.T) {
	dir := tree(t, map[string][]byte{"config": []byte("# CONFIG_A is not set\nCONFIG_B=m\nCONFIG_C=y\nCONFIG_D=m\n")})
	got, err := Options(filepath.Join(dir, "config"), map[string]string{"CONFIG_A": "y", "CONFIG_B": "y", "CONFIG_C": "m", "CONFIG_D": "m"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"CONFIG_A=y", "CONFIG_B=y"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestPackageNames(t *testing.T) {
	for pkg, release := range map[string]string{
		"linux-image-6.1.0-56-amd64":            "6.1.0-56-amd64",
		"linux-image-6.1.0-56-cloud-amd64":      "6.1.0-56-cloud-amd64",
		"linux-image-unsigned-6.8.0-45-generic": "6.8.0-45-generic",
		"linux-image-amd64":                     "",
		"linux-image-generic":                   "",
	} {
		got := ""
		if m := image.FindStringSubmatch(pkg); m != nil {
			got = m[1]
		}
		if got != release {
			t.Errorf("%s: release %q, want %q", pkg, got, release)
		}
	}
}
