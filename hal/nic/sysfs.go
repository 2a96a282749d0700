package nic

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// sysfs is a sysfs mounted at, or copied to, a directory. Its links are relative, so that a copy anywhere resolves.
// All paths are relative to that directory.
type sysfs struct {
	root string // absolute, without symlinks
}

func openSysfs(root string) (sysfs, error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return sysfs{}, err
	}
	abs, err = filepath.EvalSymlinks(abs)
	if err != nil {
		return sysfs{}, err
	}
	return sysfs{root: abs}, nil
}

// list returns the names in a directory, sorted.
func (s sysfs) list(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(s.root, dir))
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// exists reports whether there is a file or link at path, whether or not the link leads anywhere.
func (s sysfs) exists(path string) bool {
	_, err := os.Lstat(filepath.Join(s.root, path))
	return err == nil
}

// resolve follows every link in path.
func (s sysfs) resolve(path string) (string, error) {
	real, err := filepath.EvalSymlinks(filepath.Join(s.root, path))
	if err != nil {
		return "", fmt.Errorf("follow link %s: %w", path, err)
	}
	rel, err := filepath.Rel(s.root, real)
	if err != nil || !filepath.IsLocal(rel) {
		return "", fmt.Errorf("follow link %s: %s is outside of sysfs", path, real)
	}
	return rel, nil
}

// target returns the last component of what the link at path points to, e.g. the name of a driver.
func (s sysfs) target(path string) (string, error) {
	link, err := os.Readlink(filepath.Join(s.root, path))
	if err != nil {
		return "", err
	}
	return filepath.Base(link), nil
}

// read returns the text of an attribute without surrounding space. The kernel's attributes are at most a page.
func (s sysfs) read(path string) (string, error) {
	f, err := os.Open(filepath.Join(s.root, path))
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(text)), nil
}
