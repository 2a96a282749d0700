package kernel

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Vmlinux takes the ELF kernel out of a bzImage. A virtual machine that starts
// it through the PVH entry point need not decompress the kernel, which under
// emulation takes seconds.
//
// The place of the payload is in the setup header: Documentation/arch/x86/boot.rst,
// fields setup_sects (0x1f1), payload_offset (0x248), payload_length (0x24c),
// from protocol 2.08 on.
func Vmlinux(ctx context.Context, bzImage []byte) ([]byte, error) {
	if len(bzImage) < 0x250 || string(bzImage[0x202:0x206]) != "HdrS" {
		return nil, fmt.Errorf("not an x86 boot image: no HdrS at 0x202")
	}
	if v := binary.LittleEndian.Uint16(bzImage[0x206:]); v < 0x208 {
		return nil, fmt.Errorf("boot protocol %#x is older than 2.08 and does not say where the kernel is", v)
	}
	sects := int(bzImage[0x1f1])
	if sects == 0 {
		sects = 4 // as the field's description says
	}
	start := (sects+1)*512 + int(binary.LittleEndian.Uint32(bzImage[0x248:]))
	end := start + int(binary.LittleEndian.Uint32(bzImage[0x24c:]))
	if start < 0 || end > len(bzImage) || start+8 > end {
		return nil, fmt.Errorf("boot image is cut short: payload at %d–%d of %d bytes", start, end, len(bzImage))
	}
	elf, err := decompress(ctx, bzImage[start:end])
	if err != nil {
		return nil, fmt.Errorf("decompress the kernel: %w", err)
	}
	if !bytes.HasPrefix(elf, []byte("\x7fELF")) {
		return nil, fmt.Errorf("decompress the kernel: the result is no ELF file")
	}
	return elf, nil
}

// decompress handles the formats a kernel can be in. The kernel's build
// appends the uncompressed size to formats that do not carry it, so bytes
// behind the end of the stream are expected.
func decompress(ctx context.Context, p []byte) ([]byte, error) {
	switch {
	case bytes.HasPrefix(p, []byte("\x7fELF")):
		return p, nil
	case bytes.HasPrefix(p, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		d, err := zstd.NewReader(nil)
		if err != nil {
			return nil, err
		}
		defer d.Close()
		return d.DecodeAll(p[:len(p)-4], nil)
	case bytes.HasPrefix(p, []byte{0x1f, 0x8b}):
		r, err := gzip.NewReader(bytes.NewReader(p))
		if err != nil {
			return nil, err
		}
		r.Multistream(false)
		return io.ReadAll(r)
	case bytes.HasPrefix(p, []byte{0x02, 0x21, 0x4c, 0x18}):
		return io.ReadAll(lz4.NewReader(bytes.NewReader(p[:len(p)-4])))
	case bytes.HasPrefix(p, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return unxz(ctx, p[:len(p)-4])
	}
	return nil, fmt.Errorf("unknown compression, first bytes % x", p[:8])
}

// unxz runs xz: it is on every Debian machine (dpkg needs it).
func unxz(ctx context.Context, p []byte) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "xz", "-dc")
	cmd.Stdin = bytes.NewReader(p)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("xz -dc: %w: %s", err, stderr.String())
	}
	return out.Bytes(), nil
}

// Options checks a kernel configuration for options the product cannot do
// without, and returns those that are not "y" (or "m" where a module will do).
func Options(config string, required map[string]string) ([]string, error) {
	b, err := os.ReadFile(config)
	if err != nil {
		return nil, fmt.Errorf("read the kernel's configuration: %w", err)
	}
	have := settings(b)
	var missing []string
	for k, want := range required {
		if have[k] != "y" && have[k] != want {
			missing = append(missing, k+"="+want)
		}
	}
	slices.Sort(missing)
	return missing, nil
}
