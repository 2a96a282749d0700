// Package store keeps the licence and its ledger on disk, in the folder "license" of a member's state directory. Each
// file is replaced atomically: after a power cut there is the old one or the new one.
package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/twinkeep/twinkeep/firmware/license"
)

const (
	licenceName = "licence"
	ledgerName  = "ledger.json"
)

// Store is the folder. The zero value keeps nothing.
type Store struct{ dir string }

// In gives the store of a state directory; with none it keeps nothing.
func In(stateDir string) Store {
	if stateDir == "" {
		return Store{}
	}
	return Store{filepath.Join(stateDir, "license")}
}

// Licence reads the installed licence file; nil when there is none.
func (s Store) Licence() ([]byte, error) { return s.read(licenceName, license.MaxSize) }

// PutLicence replaces the installed licence file. Without a state directory that is an error.
func (s Store) PutLicence(file []byte) error {
	if s.dir == "" {
		return errors.New("keep the licence: there is no state directory")
	}
	return s.write(licenceName, file)
}

// RemoveLicence takes the licence file out. It is no error when there is none.
func (s Store) RemoveLicence() error {
	if s.dir == "" {
		return nil
	}
	err := os.Remove(filepath.Join(s.dir, licenceName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = syncDir(s.dir)
	}
	if err != nil {
		return fmt.Errorf("remove the licence: %w", err)
	}
	return nil
}

// Ledger reads what was remembered: the zero Ledger when there is nothing yet, license.Damaged with an error when it
// cannot be read.
func (s Store) Ledger() (license.Ledger, error) {
	data, err := s.read(ledgerName, license.MaxLedger)
	if err != nil || data == nil {
		if err != nil {
			return license.Damaged(), err
		}
		return license.Ledger{}, nil
	}
	l, err := license.ParseLedger(data)
	if err != nil {
		return license.Damaged(), fmt.Errorf("%s: %w", filepath.Join(s.dir, ledgerName), err)
	}
	return l, nil
}

// PutLedger remembers, if there is a state directory.
func (s Store) PutLedger(l license.Ledger) error { return s.write(ledgerName, l.Encode()) }

// read gives one byte more than most of a file that is larger, so that its reader refuses it; nil when there is none.
func (s Store) read(name string, most int64) ([]byte, error) {
	if s.dir == "" {
		return nil, nil
	}
	f, err := os.Open(filepath.Join(s.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if data == nil {
		data = []byte{}
	}
	return data, nil
}

func (s Store) write(name string, data []byte) error {
	if s.dir == "" {
		return nil
	}
	err := os.MkdirAll(s.dir, 0o755)
	if err == nil {
		err = s.replace(name, data)
	}
	if err != nil {
		return fmt.Errorf("keep %s: %w", name, err)
	}
	return nil
}

func (s Store) replace(name string, data []byte) error {
	temp, err := os.CreateTemp(s.dir, "."+name+".*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) // fails harmlessly once renamed
	_, err = temp.Write(data)
	if err = errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp.Name(), filepath.Join(s.dir, name)); err != nil {
		return err
	}
	return syncDir(s.dir)
}

// syncDir makes a rename itself durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
