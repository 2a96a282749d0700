package scenario

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/twinkeep/twinkeep/init/data"
	"github.com/twinkeep/twinkeep/init/gpt"
	"github.com/twinkeep/twinkeep/tools/image/disk"
)

// disk is the image of a gateway's disk; empty when it has none.
func (l *Lab) disk(name string) string {
	if !l.Disks || !slices.Contains(Gateways, name) {
		return ""
	}
	return filepath.Join(l.RunDir, name+".disk")
}

// newDisk makes a disk with an empty data partition. Only the image of a disk has what makes its file system (tools/lab/box
// tests that), so it is made here.
func newDisk(path string) error {
	if err := disk.Write(path, nil); err != nil {
		return fmt.Errorf("make disk: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("make disk: %w", err)
	}
	defer f.Close()
	table, err := gpt.Read(f, disk.Size)
	if err != nil {
		return fmt.Errorf("make disk: %w", err)
	}
	p := table.Partitions[table.Find(data.DataName)]
	cmd := exec.Command("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-J", "size=4", "-L", data.DataName,
		"-E", "lazy_itable_init=0,offset="+strconv.FormatInt(p.Offset(), 10), path, strconv.FormatInt(p.Size()>>10, 10)+"k")
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make the data partition, with mke2fs of the package e2fsprogs: %w\n%s", err, out)
	}
	return nil
}
