package data

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// AskReset asks PID 1 for the factory reset at the next boot, durably. There is a data partition (see Read). A full file system, or one that has
// become read-only, cannot keep the ResetFile: then the first sector of the partition says the same.
func (d Disk) AskReset() error { return askReset(Mountpoint, d.Data) }

func askReset(dir, device string) error {
	err := leaveResetFile(dir)
	if err == nil {
		return nil
	}
	f, derr := os.OpenFile(device, os.O_WRONLY, 0)
	if derr == nil {
		// ext4 has the same page of the device in memory, so its next write of the superblock does not undo it.
		derr = errors.Join(markUnfinished(f), f.Close())
	}
	if derr != nil {
		return fmt.Errorf("nothing is erased, the disk cannot be written; destroy it instead: %w", errors.Join(err, derr))
	}
	return nil
}

func leaveResetFile(dir string) error {
	if !mounted(dir) {
		return fmt.Errorf("%s: the data partition is not mounted", dir)
	}
	name := filepath.Join(dir, ResetFile)
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return syncDir(dir)
}

// mounted tells whether something is mounted on dir, and it is not a folder in memory.
func mounted(dir string) bool {
	var here, above unix.Stat_t
	return unix.Stat(dir, &here) == nil && unix.Stat(filepath.Join(dir, ".."), &above) == nil && here.Dev != above.Dev
}

// Room tells what is wrong with the data partition as it is mounted; empty when nothing is, or when there is none.
func Room() string { return room(Mountpoint) }

// little is how many bytes are too few: a policy with its signatures has to find room.
const little = 1 << 20

func room(dir string) string {
	var st unix.Statfs_t
	if !mounted(dir) || unix.Statfs(dir, &st) != nil {
		return ""
	}
	switch {
	case st.Flags&unix.ST_RDONLY != 0:
		return "the data partition cannot be written: restart to have it repaired, or replace the disk"
	case st.Bavail*uint64(st.Bsize) < little:
		return "the data partition is full"
	}
	return ""
}
