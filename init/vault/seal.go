package vault

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// Sealer keeps a key so that only this box can open it.
type Sealer interface {
	Seal(key []byte) (json.RawMessage, error)
	Unseal(json.RawMessage) ([]byte, error)
}

// ErrExists, ErrNone: what was asked for is already so.
var (
	ErrExists = errors.New("the secrets are sealed already")
	ErrNone   = errors.New("the secrets are not sealed")
	errLocked = errors.New("the vault is locked")
)

// Seal makes the vault of all that is in the trees, and takes it from the disk. A power cut before the vault is on the disk leaves
// everything as it was; after that Open goes on. The recovery key is one of NewRecovery.
func (p Place) Seal(s Sealer, recovery string) error {
	unlock, err := p.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if p.Exists() {
		return ErrExists
	}
	key, id := make([]byte, KeySize), make([]byte, idSize)
	rand.Read(key) // never fails
	rand.Read(id)
	h := Header{ID: id}
	if h.Recovery, err = wrap(recovery, id, key); err != nil {
		return err
	}
	if h.Sealed, err = s.Seal(key); err != nil {
		return err
	}
	files, err := p.collect()
	if err != nil {
		return err
	}
	if err := p.inMemory(files); err != nil {
		return err
	}
	if err := p.save(h, key, files); err != nil {
		return errors.Join(err, os.Remove(p.file()), p.onDisk())
	}
	if err := p.setState(State{Key: key}); err != nil {
		return errors.Join(err, os.Remove(p.file()), p.onDisk())
	}
	if _, err := p.wipe(); err != nil {
		return fmt.Errorf("%w: %w", errClear, err)
	}
	return nil
}

// Open is for the start of a box: it opens the vault, if there is one, and puts the files where they are expected. What the image
// brings in the folders of the trees is there too, where the vault has no file of that name. A vault that does not open is locked, and
// the error says why; with an error although it was opened, there was something on the disk in the clear.
func (p Place) Open(s Sealer) (opened bool, err error) {
	unlock, err := p.lock()
	if err != nil {
		return false, err
	}
	defer unlock()
	if stale, err := filepath.Glob(filepath.Join(p.Data, "."+fileName+".*")); err == nil {
		for _, name := range stale {
			os.Remove(name)
		}
	}
	if !p.Exists() {
		return false, nil
	}
	if err := p.open(s); errors.Is(err, errClear) || errors.Is(err, errErased) {
		return true, err
	} else if err != nil {
		return false, errors.Join(err, p.Lock(err.Error()))
	}
	return true, nil
}

// These are no reason to stay locked.
var (
	errClear  = errors.New("secrets are still on the disk in the clear")
	errErased = errors.New("files that lay on the disk in the clear beside the vault were erased")
)

func (p Place) open(s Sealer) error {
	_, key, files, err := p.decrypt(func(h Header) ([]byte, error) { return s.Unseal(h.Sealed) })
	if err != nil {
		return err
	}
	left, wipeErr := p.wipe() // the rest goes on
	brought, err := p.collect()
	if err != nil {
		return err
	}
	for _, f := range brought {
		if !slices.ContainsFunc(files, func(g File) bool { return g.Path == f.Path }) {
			files = append(files, f)
		}
	}
	if err := p.inMemory(files); err != nil {
		return err
	}
	if err := p.setState(State{Key: key}); err != nil {
		return errors.Join(err, p.onDisk())
	}
	if wipeErr != nil {
		return fmt.Errorf("%w: %w", errClear, wipeErr)
	}
	if left > 0 {
		return fmt.Errorf("%w: %d, from a sealing that lost its power or an image that knows no vault; what is in the vault counts", errErased, left)
	}
	return nil
}

// header reads the part of the vault that needs no key.
func (p Place) header() (Header, error) {
	b, err := p.read()
	if err != nil {
		return Header{}, err
	}
	h, _, _, err := split(b)
	return h, err
}

// decrypt reads the vault with the key that is got from its header.
func (p Place) decrypt(open func(Header) ([]byte, error)) (h Header, key []byte, files []File, err error) {
	b, err := p.read()
	if err != nil {
		return Header{}, nil, nil, err
	}
	if h, _, _, err = split(b); err != nil {
		return Header{}, nil, nil, err
	}
	if key, err = open(h); err != nil {
		return Header{}, nil, nil, err
	}
	h, files, err = decode(b, key)
	return h, key, files, err
}

// opened reads an open vault; the lock is held.
func (p Place) opened() (Header, []byte, []File, error) {
	key, err := p.key()
	if err != nil {
		return Header{}, nil, nil, err
	}
	return p.decrypt(func(Header) ([]byte, error) { return key, nil })
}

// key gives the key of an open vault; the lock is held.
func (p Place) key() ([]byte, error) {
	if !p.Exists() {
		return nil, ErrNone
	}
	s, err := p.State()
	if err == nil && len(s.Key) == 0 {
		err = errLocked
	}
	return s.Key, err
}

// Unseal puts the secrets on the disk in the clear, and removes the vault. A power cut in between leaves the vault.
func (p Place) Unseal() error {
	unlock, err := p.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := p.key(); err != nil {
		return err
	}
	files, err := p.collect()
	if err != nil {
		return err
	}
	return p.leave(files)
}

// leave replaces the vault by files.
func (p Place) leave(files []File) error {
	if err := p.clear(files); err != nil {
		return err
	}
	if err := errors.Join(os.Remove(p.file()), syncDir(p.Data)); err != nil {
		return err
	}
	s, err := p.State()
	if err := errors.Join(err, os.Remove(p.state())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(s.Key) == 0 {
		return nil // it was locked: nothing is mounted
	}
	return p.onDisk()
}

// Reseal seals the key of an open vault anew, to the box as it is now; with a recovery key, also that.
func (p Place) Reseal(s Sealer, recovery string) error {
	unlock, err := p.lock()
	if err != nil {
		return err
	}
	defer unlock()
	h, key, files, err := p.opened()
	if err != nil {
		return err
	}
	if recovery != "" {
		if h.Recovery, err = wrap(recovery, h.ID, key); err != nil {
			return err
		}
	}
	if h.Sealed, err = s.Seal(key); err != nil {
		return err
	}
	return p.save(h, key, files)
}

// Recover opens a locked vault with the recovery key and seals it anew, to the box as it is now; without a Sealer it puts the secrets
// on the disk in the clear. The next start finds it.
func (p Place) Recover(s Sealer, recovery string) error {
	unlock, err := p.lock()
	if err != nil {
		return err
	}
	defer unlock()
	h, key, files, err := p.decrypt(func(h Header) ([]byte, error) { return unwrap(recovery, h) })
	if err != nil {
		return err
	}
	if s == nil {
		return p.leave(files)
	}
	if h.Sealed, err = s.Seal(key); err != nil {
		return err
	}
	return p.save(h, key, files)
}

// Header gives what can be read of the vault without its key.
func (p Place) Header() (Header, error) {
	if !p.Exists() {
		return Header{}, ErrNone
	}
	return p.header()
}

// Syncer finds what was changed without Write, as from a shell.
type Syncer struct {
	Place Place
	mu    sync.Mutex
	last  string
}

// Sync brings the vault, if it is open, to what is in the trees, and tells whether it had to.
func (y *Syncer) Sync() (changed bool, err error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	p := y.Place
	if s, err := p.State(); err != nil || len(s.Key) == 0 {
		return false, err
	}
	stamp := p.stamp()
	if stamp == y.last {
		return false, nil
	}
	unlock, err := p.lock()
	if err != nil {
		return false, err
	}
	defer unlock()
	h, key, was, err := p.opened()
	if err != nil {
		return false, err
	}
	is, err := p.collect()
	if err != nil {
		return false, err
	}
	if !same(was, is) {
		if err := p.save(h, key, is); err != nil {
			return false, err
		}
		changed = true
	}
	y.last = stamp
	return changed, nil
}

// stamp differs when a file was changed.
func (p Place) stamp() string {
	var b bytes.Buffer
	for _, t := range p.Trees {
		filepath.WalkDir(t.Dir, func(path string, e fs.DirEntry, err error) error {
			if err == nil {
				if info, err := e.Info(); err == nil {
					fmt.Fprintf(&b, "%s %v %d %d\n", path, info.Mode(), info.Size(), info.ModTime().UnixNano())
				}
			}
			return nil
		})
	}
	return b.String()
}

func same(a, b []File) bool {
	if len(a) != len(b) {
		return false
	}
	by := make(map[string]File, len(a))
	for _, f := range a {
		by[f.Path] = f
	}
	return !slices.ContainsFunc(b, func(f File) bool {
		g, ok := by[f.Path]
		return !ok || g.Mode != f.Mode || !bytes.Equal(g.Data, f.Data)
	})
}
