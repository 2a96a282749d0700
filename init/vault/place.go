package vault

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/init/data"
)

// Tree is a folder of secrets.
type Tree struct {
	Name string // in the vault
	Dir  string // where everybody expects it
	Disk string // its folder below Place.Data while there is no vault
}

// Place says where everything is.
type Place struct {
	Data  string // the data partition
	Run   string // a folder in memory
	Trees []Tree
}

// Box is the place on a box.
var Box = Place{
	Data: data.Mountpoint, Run: filepath.Dir(data.StateFile),
	Trees: []Tree{{"config", "/etc/twinkeep", data.ConfigDir}, {"ssh", data.Mountpoint + "/ssh", "ssh"}, {"api", data.Mountpoint + "/api", "api"}},
}

// fileName is the vault on the data partition.
const fileName = "secrets.vault"

func (p Place) file() string  { return filepath.Join(p.Data, fileName) }
func (p Place) state() string { return filepath.Join(p.Run, "vault.json") }

// Exists tells whether the box has a vault, open or not.
func (p Place) Exists() bool { _, err := os.Lstat(p.file()); return !errors.Is(err, fs.ErrNotExist) }

// State is how the vault is since this start. The zero value: there is none.
type State struct {
	Key []byte `json:"key,omitempty"` // it is open
	Why string `json:"why,omitempty"` // it is locked, and why
}

// State reads it.
func (p Place) State() (State, error) {
	var s State
	b, err := os.ReadFile(p.state())
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		return s, fmt.Errorf("state of the vault: %w", err)
	}
	return s, nil
}

func (p Place) setState(s State) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return replace(p.state(), b, 0o600)
}

// Lock says that the vault cannot be opened.
func (p Place) Lock(why string) error { return p.setState(State{Why: why}) }

// Write replaces a file, mode 0600. After a power cut there is the old one or the new one. A file of a Tree whose vault is open is in
// the vault first: when that fails, nothing was changed.
func Write(path string, content []byte) error { return Box.Write(path, content) }

// Write is the function Write for another place.
func (p Place) Write(path string, content []byte) error {
	unlock, err := p.lock()
	if err != nil {
		return err
	}
	defer unlock()
	name, inside := p.name(path)
	s, err := p.State()
	if err != nil {
		return err
	}
	if inside && len(s.Key) > 0 {
		files, err := p.collect()
		if err != nil {
			return err
		}
		files = slices.DeleteFunc(files, func(f File) bool { return f.Path == name })
		if err := p.store(s.Key, append(files, File{name, 0o600, content})); err != nil {
			return err
		}
	}
	return replace(path, content, 0o600)
}

// name is what a file is called in the vault.
func (p Place) name(path string) (string, bool) {
	for _, t := range p.Trees {
		if rel, err := filepath.Rel(t.Dir, path); err == nil && filepath.IsLocal(rel) && rel != "." {
			return filepath.Join(t.Name, rel), true
		}
	}
	return "", false
}

// store writes the vault with new content, everything else as it is.
func (p Place) store(key []byte, files []File) error {
	h, err := p.header()
	if err != nil {
		return err
	}
	return p.save(h, key, files)
}

func (p Place) save(h Header, key []byte, files []File) error {
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	b, err := encode(h, key, files)
	if err != nil {
		return err
	}
	return replace(p.file(), b, 0o600)
}

func (p Place) read() ([]byte, error) {
	f, err := os.Open(p.file())
	if err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxVault+1))
	if err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	return b, nil
}

// lock keeps other processes from changing the vault meanwhile. Where there is no folder for it, there is no vault.
func (p Place) lock() (func(), error) {
	f, err := os.OpenFile(filepath.Join(p.Run, "vault.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return func() {}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("vault: %w", err)
	}
	return func() { f.Close() }, nil
}

// collect reads the files of all trees. Names that begin with a dot are of files that are being written.
func (p Place) collect() ([]File, error) {
	var out []File
	for _, t := range p.Trees {
		files, err := collect(t.Dir, t.Name)
		if err != nil {
			return nil, err
		}
		out = append(out, files...)
	}
	return out, nil
}

func collect(dir, name string) (out []File, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || e.IsDir() || e.Name()[0] == '.' {
			return err
		}
		if !e.Type().IsRegular() {
			return fmt.Errorf("%s is not a regular file: take it away", path)
		}
		info, err := e.Info()
		if err == nil && info.Size() > maxVault {
			err = fmt.Errorf("%s has %d bytes: take it away", path, info.Size())
		}
		if err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		rel, relErr := filepath.Rel(dir, path)
		out = append(out, File{filepath.Join(name, rel), uint32(info.Mode().Perm()), b})
		return errors.Join(err, relErr)
	})
	if err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	return out, nil
}

// replace writes a file so that a power cut leaves the old one or the new one.
func replace(path string, content []byte, mode fs.FileMode) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails harmlessly once renamed
	_, err = f.Write(content)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
