// Package disk is the few file operations that the policy store needs, as an interface, so that a test can cut the
// power after any of them.
package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// FS is a directory tree. Names are slash-separated and relative to its root. Errors match those of [io/fs]:
// fs.ErrNotExist, fs.ErrExist.
//
// Nothing is promised to survive a power cut but the content of a file after Sync, and the entries of a directory
// (files created, renamed, removed) after SyncDir.
type FS interface {
	// ReadFile gives the whole content. A file with more than limit bytes is an error, and is not read.
	ReadFile(name string, limit int64) ([]byte, error)
	// Create makes a new, empty file, or empties an old one.
	Create(name string) (File, error)
	// Rename replaces newName, atomically.
	Rename(oldName, newName string) error
	Remove(name string) error
	// List gives the names of the files in a directory, in lexical order, without directories.
	List(dir string) ([]string, error)
	// MkdirAll makes a directory and those above it, durably.
	MkdirAll(dir string) error
	SyncDir(dir string) error
}

// File is one that is being written.
type File interface {
	io.Writer
	Sync() error
	Close() error
}

// OS is the directory tree below root on the real disk. Files have mode 0600, directories 0700.
func OS(root string) FS { return osFS{root} }

type osFS struct{ root string }

func (o osFS) path(name string) string { return filepath.Join(o.root, filepath.FromSlash(name)) }

func (o osFS) ReadFile(name string, limit int64) ([]byte, error) {
	f, err := os.Open(o.path(name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", o.path(name), limit)
	}
	return data, nil
}

func (o osFS) Create(name string) (File, error) {
	return os.OpenFile(o.path(name), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
}

func (o osFS) Rename(oldName, newName string) error {
	return os.Rename(o.path(oldName), o.path(newName))
}

func (o osFS) Remove(name string) error { return os.Remove(o.path(name)) }

func (o osFS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(o.path(dir))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (o osFS) MkdirAll(dir string) error { return mkdirAll(o.path(dir)) }

func mkdirAll(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(path)
	if parent != path {
		if err := mkdirAll(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

func (o osFS) SyncDir(dir string) error { return syncDir(o.path(dir)) }

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// TempSuffix ends the names of files that are not finished.
const TempSuffix = ".tmp"

// WriteFile puts data in place as name, so that after a power cut at any moment there is the old file, or the new
// one whole; when it returns nil, the new one. On an error the old file stays.
func WriteFile(f FS, name string, data []byte) error {
	temp := name + TempSuffix
	w, err := f.Create(temp)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if _, err = w.Write(data); err == nil {
		err = w.Sync()
	}
	if err = errors.Join(err, w.Close()); err == nil {
		err = f.Rename(temp, name)
	}
	if err != nil {
		f.Remove(temp) // what is left of it is swept when the store is opened
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := f.SyncDir(dir(name)); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func dir(name string) string {
	for i := len(name) - 1; i >= 0; i-- {
		if name[i] == '/' {
			return name[:i]
		}
	}
	return "."
}

// NotExist reports whether err says that a file is not there.
func NotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
