// Package flash writes the running system onto another disk, from a stick or a
// disk that is to be replaced.
//
// The new disk gets a partition table of its own and a copy of the EFI system
// partition; its data partition is blank and made at its first boot, so nothing
// of this box (keys, node file) travels with it.
package flash

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/init/data"
	"github.com/twinkeep/twinkeep/init/gpt"
)

// Target is a disk that could be written.
type Target struct {
	Device  string
	Size    int64
	Model   string
	Content string // what is on it, for the operator's decision
	Empty   bool
}

// minimal data partition.
const minData = 16 << 20

// Inspect looks at a disk and refuses what must not be written: the disk that
// this system runs from, one that is mounted, and what is not a whole disk.
func Inspect(device, running string, espSize int64) (Target, error) {
	t := Target{Device: device}
	name := filepath.Base(device)
	sys := filepath.Join("/sys/block", name)
	if _, err := os.Stat(sys); err != nil {
		return t, fmt.Errorf("%s is not a whole disk: want one of %s", device, strings.Join(disks(), ", "))
	}
	if name == running {
		return t, fmt.Errorf("this system runs from %s: an upgrade replaces it (upgrade install), flash writes another disk", device)
	}
	if in, err := mounted(device); err != nil || in != "" {
		return t, errors.Join(err, fmt.Errorf("%s is in use: %s is mounted", device, in))
	}
	sectors, err := os.ReadFile(filepath.Join(sys, "size"))
	if err != nil {
		return t, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(sectors)), 10, 64)
	if err != nil {
		return t, err
	}
	t.Size = n * gpt.Sector
	if need := espSize + minData + 3<<20; t.Size < need {
		return t, fmt.Errorf("%s has %d MiB, %d are needed", device, t.Size>>20, need>>20)
	}
	if b, err := os.ReadFile(filepath.Join(sys, "queue/logical_block_size")); err == nil && strings.TrimSpace(string(b)) != "512" {
		return t, fmt.Errorf("%s has sectors of %s bytes; only 512 are supported", device, bytes.TrimSpace(b))
	}
	if b, err := os.ReadFile(filepath.Join(sys, "device/model")); err == nil {
		t.Model = strings.TrimSpace(string(b))
	}
	f, err := os.Open(device)
	if err != nil {
		return t, err
	}
	defer f.Close()
	t.Content, t.Empty = Describe(f, t.Size)
	return t, nil
}

func disks() []string {
	list, err := os.ReadDir("/sys/block")
	if err != nil {
		return nil
	}
	var out []string
	for _, d := range list {
		if _, err := os.Stat(filepath.Join("/sys/block", d.Name(), "device")); err == nil {
			out = append(out, "/dev/"+d.Name())
		}
	}
	return out
}

// mounted gives a partition of the disk that is mounted.
func mounted(device string) (string, error) {
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if source, _, _ := strings.Cut(line, " "); strings.HasPrefix(source, device) {
			return source, nil
		}
	}
	return "", nil
}

// Describe says what is on a disk.
func Describe(r io.ReaderAt, size int64) (content string, empty bool) {
	if t, err := gpt.Read(r, size); err == nil {
		var names []string
		for i, p := range t.Partitions {
			if p.Type != (gpt.GUID{}) {
				names = append(names, fmt.Sprintf("%d %q %d MiB", i+1, p.Name, p.Size()>>20))
			}
		}
		if len(names) == 0 {
			return "an empty partition table", true
		}
		return "partitions: " + strings.Join(names, ", "), false
	}
	head := make([]byte, 1<<20)
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "cannot be read: " + err.Error(), false
	}
	if head = head[:n]; len(bytes.Trim(head, "\x00")) == 0 {
		return "nothing", true
	}
	if len(head) > 512 && head[510] == 0x55 && head[511] == 0xaa {
		return "an old partition table (MBR) or boot sector", false
	}
	return "data without a partition table", false
}

// Disk is what is written to.
type Disk interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

const chunk = 1 << 20

// Write makes the disk bootable: esp is the EFI system partition to copy, of
// espSize bytes. The partition table comes last, so that a disk whose writing
// broke off is not taken for a good one. Everything is read back and compared.
func Write(d Disk, size int64, esp io.ReaderAt, espSize int64, progress func(done, all int64)) error {
	t, err := table(size, espSize)
	if err != nil {
		return err
	}
	all := 2 * espSize
	blank := make([]byte, chunk)
	// The old tables at both ends, and the head of the data partition.
	for _, off := range []int64{0, size/chunk*chunk - chunk, t.Partitions[1].Offset()} {
		if _, err := d.WriteAt(blank, off); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	if err := d.Sync(); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	buf, back := make([]byte, chunk), make([]byte, chunk)
	first := t.Partitions[0].Offset()
	for off := int64(0); off < espSize; off += chunk {
		if _, err := esp.ReadAt(buf, off); err != nil {
			return fmt.Errorf("read the EFI system partition: %w", err)
		}
		if _, err := d.WriteAt(buf, first+off); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		progress(off+chunk, all)
	}
	if err := d.Sync(); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if f, ok := d.(*os.File); ok {
		// What is read back shall come from the disk.
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			return err
		}
	}
	for off := int64(0); off < espSize; off += chunk {
		if _, err := esp.ReadAt(buf, off); err != nil {
			return fmt.Errorf("read the EFI system partition: %w", err)
		}
		if _, err := d.ReadAt(back, first+off); err != nil {
			return fmt.Errorf("read back: %w", err)
		}
		if !bytes.Equal(buf, back) {
			return errors.New("read back: the disk returned something else than was written: take another disk")
		}
		progress(espSize+off+chunk, all)
	}
	return t.Store(d)
}

func table(size, espSize int64) (*gpt.Table, error) {
	t := &gpt.Table{Sectors: uint64(size / gpt.Sector)}
	const start = chunk / gpt.Sector
	esp := uint64(espSize / gpt.Sector)
	if espSize%chunk != 0 || size < espSize+minData+3*chunk {
		return nil, fmt.Errorf("a disk of %d bytes has no room for a partition of %d", size, espSize)
	}
	t.Partitions = []gpt.Partition{
		{Type: gpt.TypeESP, First: start, Last: start + esp - 1, Name: data.ESPName},
		{Type: gpt.TypeLinux, First: start + esp, Last: start + esp + minData/gpt.Sector - 1, Name: data.DataName},
	}
	for _, g := range []*gpt.GUID{&t.Disk, &t.Partitions[0].ID, &t.Partitions[1].ID} {
		rand.Read(g[:])
		g[7] = g[7]&0x0f | 0x40
		g[8] = g[8]&0x3f | 0x80
	}
	return t, nil
}
