package kernel

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// modinfo is what a module says about itself in its .modinfo section.
type modinfo struct {
	depends []string // modules whose symbols it uses
	softpre []string // modules or aliases that should be loaded before it
	aliases []string
}

// readModinfo parses the .modinfo section: NUL-terminated key=value strings.
func readModinfo(ko []byte) (modinfo, error) {
	f, err := elf.NewFile(bytes.NewReader(ko))
	if err != nil {
		return modinfo{}, fmt.Errorf("not a kernel module: %w", err)
	}
	sec := f.Section(".modinfo")
	if sec == nil {
		return modinfo{}, fmt.Errorf("not a kernel module: no .modinfo section")
	}
	data, err := sec.Data()
	if err != nil {
		return modinfo{}, fmt.Errorf("read .modinfo: %w", err)
	}
	return parseModinfo(data), nil
}

func parseModinfo(data []byte) modinfo {
	var m modinfo
	for field := range bytes.SplitSeq(data, []byte{0}) {
		key, value, _ := strings.Cut(string(field), "=")
		switch key {
		case "depends":
			for d := range strings.SplitSeq(value, ",") {
				if d != "" {
					m.depends = append(m.depends, d)
				}
			}
		case "softdep":
			// "pre: a b post: c"; only what comes before matters here.
			pre := false
			for _, w := range strings.Fields(value) {
				switch {
				case strings.HasSuffix(w, ":"):
					pre = w == "pre:"
				case pre:
					m.softpre = append(m.softpre, w)
				}
			}
		case "alias":
			m.aliases = append(m.aliases, value)
		}
	}
	return m
}

// readModule returns the uncompressed module. Debian 12 ships .ko, Ubuntu
// .ko.zst, others .ko.xz or .ko.gz. The image always holds .ko: the whole
// initramfs is compressed anyway, and better.
func readModule(ctx context.Context, file string) ([]byte, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var r io.Reader
	switch filepath.Ext(file) {
	case ".ko":
		return b, nil
	case ".zst":
		d, err := zstd.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		defer d.Close()
		r = d
	case ".gz":
		if r, err = gzip.NewReader(bytes.NewReader(b)); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	case ".xz":
		out, err := run(ctx, "", "xz", "-dc", file)
		return []byte(out), err
	default:
		return nil, fmt.Errorf("%s: compressed in a way the image builder does not know", file)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return out, nil
}
