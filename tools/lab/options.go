package main

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"syscall"
)

type options struct {
	root       string // of the module
	dir, image string
	cmdline    string
	seed       uint64
	machine    string
	demo, keep bool
	scenarios  bool
	stories    []string // of scenarios, or to be told behind the demo
	load       string   // of the host, before the lab starts
	child      bool
}

// resolve finds the module and makes the folders absolute.
func (o *options) resolve() error {
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	o.root = moduleRoot(dir)
	if o.root == "" && (o.image != "" || !filepath.IsAbs(o.dir)) {
		return fmt.Errorf("no go.mod at or above %s: run the lab in the source tree, or give an absolute --dir to look at a running one", dir)
	}
	for _, p := range []*string{&o.dir, &o.image} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(o.root, *p)
		}
	}
	return nil
}

// moduleRoot is the nearest folder with a go.mod, from dir upwards; empty when there is none.
func moduleRoot(dir string) string {
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			return ""
		}
		dir = up
	}
}

// runDir is a short folder for sockets, whose paths end at 107 bytes. Labs in different folders do not meet.
func (o *options) runDir() (string, error) {
	base := os.Getenv("XDG_RUNTIME_DIR")
	if base == "" {
		base = os.TempDir()
	}
	base = filepath.Join(base, fmt.Sprintf("twinkeep-lab-%d", os.Getuid()))
	if err := os.MkdirAll(base, 0o700); err != nil {
		return "", fmt.Errorf("runtime folder: %w", err)
	}
	// In /tmp anybody could have made it first, and would then own the consoles.
	fi, err := os.Lstat(base)
	if err != nil {
		return "", fmt.Errorf("runtime folder: %w", err)
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); !ok || !fi.IsDir() || int(st.Uid) != os.Getuid() || fi.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("runtime folder %s is not a private folder of this user: remove it, or set XDG_RUNTIME_DIR", base)
	}
	h := fnv.New32a()
	h.Write([]byte(o.dir))
	return filepath.Join(base, fmt.Sprintf("%08x", h.Sum32())), nil
}

// kernel is the kernel to boot: vmlinux starts through PVH, without the decompressor that is slow under TCG.
func (o *options) kernel() (string, error) {
	var errs []error
	for _, name := range []string{"vmlinux", "vmlinuz"} {
		p := filepath.Join(o.image, name)
		_, err := os.Stat(p)
		if err == nil {
			return p, nil
		}
		errs = append(errs, err)
	}
	return "", fmt.Errorf("no kernel, build the image with `go run ./tools/image`: %w", errors.Join(errs...))
}
