package data

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/init/gpt"
)

// Disk is the disk that the machine was started from.
type Disk struct {
	Name string `json:"name"` // e.g. "sda"
	ESP  string `json:"esp"`  // device files of the partitions
	Data string `json:"data"`
	// Lost is true when the data partition had to be made anew at this boot
	// although something was on it.
	Lost bool `json:"lost,omitempty"`
}

// Read reads the StateFile. Without one the image does not run from a disk.
func Read() (Disk, error) {
	var d Disk
	b, err := os.ReadFile(StateFile)
	if err != nil {
		return d, err
	}
	return d, json.Unmarshal(b, &d)
}

// found is a disk with our two partitions.
type found struct {
	name      string
	size      int64
	table     *gpt.Table
	esp, data int // indices
}

// errNoDisk is what scan gives while no disk has our partitions.
var errNoDisk = errors.New("no disk has the partitions " + ESPName + " and " + DataName)

// find waits for the disk; probe is called between looks, to load drivers.
// USB sticks and disks behind slow controllers take seconds to appear.
func find(partition string, patience time.Duration, probe func(), say func(string, ...any)) (*found, error) {
	for end := time.Now().Add(patience); ; probe() {
		all, err := scan("/sys/block", "/dev")
		if len(all) > 0 {
			return choose(all, partition, say), nil
		}
		if time.Now().After(end) {
			return nil, errors.Join(errNoDisk, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func scan(sys, dev string) ([]*found, error) {
	dirs, err := os.ReadDir(sys)
	if err != nil {
		return nil, err
	}
	var all []*found
	var errs []error
	for _, d := range dirs {
		f, err := inspect(d.Name(), sys, dev)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", d.Name(), err))
		} else if f != nil {
			all = append(all, f)
		}
	}
	return all, errors.Join(errs...)
}

// inspect reads the partition table of a disk; nil without our partitions.
func inspect(name, sys, dev string) (*found, error) {
	text, err := os.ReadFile(filepath.Join(sys, name, "size"))
	if err != nil {
		return nil, err
	}
	sectors, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || sectors == 0 {
		return nil, err
	}
	f, err := os.Open(filepath.Join(dev, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t, err := gpt.Read(f, sectors*gpt.Sector)
	if err != nil {
		return nil, nil // another kind of disk, or an unreadable one: not ours
	}
	d := &found{name: name, size: sectors * gpt.Sector, table: t, esp: t.Find(ESPName), data: t.Find(DataName)}
	if d.esp < 0 || d.data < 0 {
		return nil, nil
	}
	return d, nil
}

// choose takes the disk that the loader was started from; when it does not say,
// or several are copies of each other, the first by name.
func choose(all []*found, partition string, say func(string, ...any)) *found {
	fit := slices.DeleteFunc(slices.Clone(all), func(f *found) bool {
		return f.table.Partitions[f.esp].ID.String() != partition
	})
	if len(fit) == 0 {
		fit = all
	}
	slices.SortFunc(fit, func(a, b *found) int { return strings.Compare(a.name, b.name) })
	if len(fit) > 1 {
		var names []string
		for _, f := range fit {
			names = append(names, f.name)
		}
		say("disks %s all hold this system; %s is used. Take the others out, or write them with `twinkeep flash`", strings.Join(names, ", "), fit[0].name)
	}
	return fit[0]
}

// partitionFile is the device file of partition n (from 1): sda1, nvme0n1p1.
func partitionFile(disk string, n int) string {
	if last := disk[len(disk)-1]; last >= '0' && last <= '9' {
		disk += "p"
	}
	return "/dev/" + disk + strconv.Itoa(n)
}

// grow lets the partition table reach to the end of the disk, and with fresh
// gives disk and partitions an identity of their own: all disks written from
// one image are alike until then.
func (d *found) grow(fresh bool) (changed bool, err error) {
	t, changed := d.table.Grow(d.size)
	if fresh {
		changed = true
		for _, g := range []*gpt.GUID{&t.Disk, &t.Partitions[d.esp].ID, &t.Partitions[d.data].ID} {
			rand.Read(g[:])
			g[7] = g[7]&0x0f | 0x40 // RFC 9562 version 4, in the order of the disk
			g[8] = g[8]&0x3f | 0x80
		}
	}
	if !changed {
		return false, nil
	}
	f, err := os.OpenFile("/dev/"+d.name, os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if err := t.Store(f); err != nil {
		return false, err
	}
	d.table = t
	p := t.Partitions[d.data]
	if err := resizePartition(f, d.data+1, p.Offset(), p.Size()); err != nil {
		return true, fmt.Errorf("tell the kernel the new size of the data partition: %w", err)
	}
	return true, nil
}

// head reads the start of the data partition through the disk: the kernel may
// not show the partition yet.
func (d *found) head() ([]byte, error) {
	f, err := os.Open("/dev/" + d.name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, HeadSize)
	_, err = f.ReadAt(b, d.table.Partitions[d.data].Offset())
	return b, err
}

// waitFor waits until devtmpfs shows a device.
func waitFor(name string, patience time.Duration) error {
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		var st unix.Stat_t
		err := unix.Stat(name, &st)
		if err == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s did not appear: the kernel does not see the partition", name)
		}
	}
}
