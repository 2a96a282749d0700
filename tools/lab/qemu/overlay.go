package qemu

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/u-root/u-root/pkg/cpio"
)

// File is a file that a machine gets on top of its image.
type File struct {
	Path string // absolute, in a directory of the image or below one
	Mode uint64 // permissions; 0644 when 0
	Data []byte
}

// Overlay writes files as an uncompressed newc archive. Missing directories are made, except those at the root:
// the image has them, and to name one that is a symbolic link there (/bin -> usr/bin) would make the kernel
// replace the link by an empty directory.
func Overlay(w io.Writer, files []File) error {
	rw := cpio.Newc.Writer(w)
	var records []cpio.Record
	dirs := map[string]bool{}
	for _, f := range files {
		name := strings.TrimPrefix(path.Clean(f.Path), "/")
		if !path.IsAbs(f.Path) || name == "" {
			return fmt.Errorf("overlay file %q: want an absolute path", f.Path)
		}
		for d := path.Dir(name); strings.Contains(d, "/"); d = path.Dir(d) {
			dirs[d] = true
		}
		mode := f.Mode
		if mode == 0 {
			mode = 0o644
		}
		records = append(records, cpio.StaticFile(name, string(f.Data), mode))
	}
	for d := range dirs {
		records = append(records, cpio.Directory(d, 0o755))
	}
	// A directory sorts before what is in it.
	slices.SortFunc(records, func(a, b cpio.Record) int { return strings.Compare(a.Name, b.Name) })
	if err := cpio.WriteRecords(rw, records); err != nil {
		return fmt.Errorf("write overlay: %w", err)
	}
	return cpio.WriteTrailer(rw)
}

// WriteInitrd writes base and the overlay behind it to dst. The kernel unpacks archives that follow each other,
// compressed or not, and a later file replaces an earlier one; an uncompressed archive must start at a multiple
// of four bytes (init/initramfs.c, unpack_to_rootfs).
func WriteInitrd(dst, base string, files []File) (err error) {
	var overlay bytes.Buffer
	if err := Overlay(&overlay, files); err != nil {
		return err
	}
	in, err := os.Open(base)
	if err != nil {
		return fmt.Errorf("open initramfs, build it with `make image`: %w", err)
	}
	defer in.Close()
	out, err := os.Create(dst)
	if err != nil {
		return fmt.Errorf("write initrd: %w", err)
	}
	defer func() {
		if cerr := out.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("write initrd: %w", cerr)
		}
	}()
	n, err := io.Copy(out, in)
	if err != nil {
		return fmt.Errorf("write initrd: %w", err)
	}
	if _, err := out.Write(append(make([]byte, (4-n%4)%4), overlay.Bytes()...)); err != nil {
		return fmt.Errorf("write initrd: %w", err)
	}
	return nil
}
