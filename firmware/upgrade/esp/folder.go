package esp

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/twinkeep/twinkeep/firmware/upgrade"
)

// Files of a folder that stands for a box, beside what an EFI system partition has. Members that run as ordinary processes
// use one, in namespaces and tests; whoever starts them plays the boot loader.
const (
	folderEntry = "started" // name of the entry that was started
	folderBoot  = "boot-id"
	folderKeys  = "upgrade.pub"
	folderLock  = "lock"
)

func (p Place) openFolder() (*System, error) {
	lock, err := openLock(filepath.Join(p.Root, folderLock))
	if err != nil {
		return nil, err
	}
	s := &System{Volume: Volume(p), place: p, close: lock.Close}
	if err := s.read(); err != nil {
		lock.Close()
		return nil, err
	}
	return s, nil
}

func (s *System) readFolder(entry *string) error {
	text, err := os.ReadFile(filepath.Join(s.Root, folderEntry))
	if err != nil {
		return err
	}
	*entry = strings.TrimSpace(string(text))
	slot := upgrade.SlotOf(*entry)
	if slot == "" {
		return fmt.Errorf("%s: %q is the entry of no slot", folderEntry, *entry)
	}
	s.Box.Release, err = s.Release(slot)
	return err
}
