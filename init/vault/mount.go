package vault

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// inMemory mounts a file system in memory over every tree and puts the files there. When it fails, nothing is mounted.
func (p Place) inMemory(files []File) (err error) {
	var done []string
	defer func() {
		if err != nil {
			for _, dir := range done {
				unix.Unmount(dir, unix.MNT_DETACH)
			}
		}
	}()
	for _, t := range p.Trees {
		if err := os.MkdirAll(t.Dir, 0o700); err != nil {
			return fmt.Errorf("vault: %w", err)
		}
		if err := unix.Mount("tmpfs", t.Dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700,size=16m"); err != nil {
			return fmt.Errorf("vault: mount a file system in memory over %s: %w", t.Dir, err)
		}
		done = append(done, t.Dir)
		if err := unpack(files, t.Name, t.Dir); err != nil {
			return err
		}
	}
	return nil
}

// unpack writes the files of a tree below dir, durably where dir is on a disk.
func unpack(files []File, tree, dir string) error {
	for _, f := range files {
		rel, err := filepath.Rel(tree, f.Path)
		if err != nil || !filepath.IsLocal(rel) {
			continue // of another tree
		}
		path := filepath.Join(dir, rel)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return fmt.Errorf("vault: %w", err)
		}
		if err := replace(path, f.Data, fs.FileMode(f.Mode)); err != nil {
			return fmt.Errorf("vault: %w", err)
		}
	}
	return nil
}

// onDisk takes the memory away again: every tree shows its folder on the data partition.
func (p Place) onDisk() error {
	var errs []error
	for _, t := range p.Trees {
		disk := filepath.Join(p.Data, t.Disk)
		errs = append(errs, unix.Unmount(t.Dir, unix.MNT_DETACH))
		if a, err := os.Stat(t.Dir); err == nil {
			if b, err := os.Stat(disk); err == nil && !os.SameFile(a, b) {
				errs = append(errs, unix.Mount(disk, t.Dir, "", unix.MS_BIND, ""))
			}
		}
	}
	return errors.Join(errs...)
}

// withDisk calls f with a path at which the data partition is seen without what is mounted in it.
func (p Place) withDisk(f func(root string) error) error {
	root := filepath.Join(p.Run, "vault-disk")
	if err := os.MkdirAll(root, 0o700); err != nil {
		return fmt.Errorf("vault: %w", err)
	}
	if err := unix.Mount(p.Data, root, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("vault: %w", err)
	}
	err := f(root)
	return errors.Join(err, unix.Unmount(root, unix.MNT_DETACH), os.Remove(root))
}

// wipe overwrites and removes the files that lie on the disk in the clear. Flash keeps what was overwritten for a while.
// It gives how many there were.
func (p Place) wipe() (n int, err error) {
	err = p.withDisk(func(root string) error {
		var errs []error
		for _, t := range p.Trees {
			dir := filepath.Join(root, t.Disk)
			err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
				if err == nil && e.Type().IsRegular() {
					n++
					err = overwrite(path)
				}
				return err
			})
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			list, readErr := os.ReadDir(dir)
			errs = append(errs, err, readErr)
			for _, e := range list {
				errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
			}
			errs = append(errs, syncDir(dir))
		}
		return errors.Join(errs...)
	})
	return n, err
}

func overwrite(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		_, err = f.Write(make([]byte, min(info.Size(), maxVault)))
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// clear writes the files on the disk in the clear, durably.
func (p Place) clear(files []File) error {
	return p.withDisk(func(root string) error {
		for _, t := range p.Trees {
			dir := filepath.Join(root, t.Disk)
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
			if err := unpack(files, t.Name, dir); err != nil {
				return err
			}
		}
		return syncDir(root)
	})
}
