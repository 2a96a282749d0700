// Package powercut is a disk in memory that loses its power, or its room, after any operation or byte.
//
// It keeps two views of every file and directory: what running programs see, and what has reached the medium. Content
// reaches it with Sync, directory entries with SyncDir. What was neither may have reached it or not, in any
// combination: [Disk.After] gives several media that a cut can leave behind.
package powercut

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/twinkeep/twinkeep/firmware/policy/internal/disk"
)

// ErrCut is what every operation gives once the power is gone.
var ErrCut = errors.New("the power is cut")

// inode is a file's content.
type inode struct {
	now    []byte // as programs see it
	synced []byte // on the medium
}

// Disk is a [disk.FS]. Its methods may be called from any goroutine.
type Disk struct {
	mu     sync.Mutex
	now    map[string]*inode // entries, as programs see them
	synced map[string]*inode // entries on the medium
	dirs   map[string]bool
	steps  int // done so far: one each operation, and one each byte written
	cut    int // steps after which the power goes; negative: never
	room   int // bytes that can still be written; negative: no limit
	ops    []int
}

// New makes an empty disk that keeps its power.
func New() *Disk {
	return &Disk{now: map[string]*inode{}, synced: map[string]*inode{}, dirs: map[string]bool{".": true}, cut: -1, room: -1}
}

// CutAfter cuts the power after so many further steps. A step is an operation that changes something, or one byte.
func (d *Disk) CutAfter(steps int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.steps, d.cut, d.ops = 0, steps, nil
}

// Steps is how many were done since CutAfter, or since the beginning.
func (d *Disk) Steps() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.steps
}

// Dead reports whether the power is gone.
func (d *Disk) Dead() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dead()
}

func (d *Disk) dead() bool { return d.cut >= 0 && d.steps >= d.cut }

// Cuts are the places to cut the power at in a run that took the steps of this disk: before and after every operation,
// and at every stride-th byte.
func (d *Disk) Cuts(stride int) []int {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := map[int]bool{}
	for n := 0; n <= d.steps; n += stride {
		at[n] = true
	}
	for _, n := range d.ops {
		at[n-1], at[n] = true, true
	}
	return slices.Sorted(maps.Keys(at))
}

// Room lets so many further bytes be written before the disk is full; negative: any number.
func (d *Disk) Room(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room = n
}

func (d *Disk) step() error {
	if d.dead() {
		return ErrCut
	}
	d.steps++
	return nil
}

func (d *Disk) operation() error {
	err := d.step()
	if err == nil {
		d.ops = append(d.ops, d.steps)
	}
	return err
}

// Lost says which parts of what was not synced a cut loses.
type Lost int

// Kinds of loss.
const (
	LostAll     Lost = iota // everything that was not synced
	LostNothing             // nothing: the cache was written just before
	LostContent             // directory entries arrived, content did not: files are empty
	LostSome                // each entry or not, each content up to some byte, at random
)

// Losses are all kinds.
func Losses() []Lost { return []Lost{LostAll, LostNothing, LostContent, LostSome} }

// After is a disk with power, as a cut at this moment can leave it.
func (d *Disk) After(l Lost, rng *rand.Rand) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := New()
	for dir := range d.dirs {
		out.dirs[dir] = true
	}
	names := map[string]bool{}
	for n := range d.now {
		names[n] = true
	}
	for n := range d.synced {
		names[n] = true
	}
	for _, n := range slices.Sorted(maps.Keys(names)) {
		node := d.synced[n]
		if l == LostNothing || l == LostContent || l == LostSome && rng.IntN(2) == 0 {
			node = d.now[n]
		}
		if node == nil {
			continue
		}
		content := node.synced
		switch {
		case l == LostNothing:
			content = node.now
		case l == LostSome && len(node.now) > 0 && rng.IntN(2) == 0:
			content = node.now[:rng.IntN(len(node.now)+1)]
			if len(content) < len(node.synced) {
				content = node.synced // what was synced stays
			}
		}
		kept := slices.Clone(content)
		i := &inode{now: kept, synced: kept}
		out.now[n], out.synced[n] = i, i
	}
	return out
}

func notExist(op, name string) error { return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist} }

// ReadFile implements [disk.FS].
func (d *Disk) ReadFile(name string, limit int64) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead() {
		return nil, ErrCut
	}
	i := d.now[path.Clean(name)]
	if i == nil {
		return nil, notExist("open", name)
	}
	if int64(len(i.now)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", name, limit)
	}
	return slices.Clone(i.now), nil
}

// Create implements [disk.FS].
func (d *Disk) Create(name string) (disk.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.operation(); err != nil {
		return nil, err
	}
	name = path.Clean(name)
	if !d.dirs[path.Dir(name)] {
		return nil, notExist("create", name)
	}
	i := d.now[name]
	if i == nil {
		i = &inode{}
		d.now[name] = i
	}
	i.now = nil
	return &file{d: d, i: i}, nil
}

type file struct {
	d *Disk
	i *inode
}

// Write takes the bytes up to the cut, or to the end of the room.
func (f *file) Write(p []byte) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	for n, b := range p {
		if f.d.room == 0 {
			return n, &fs.PathError{Op: "write", Path: "file", Err: syscall.ENOSPC}
		}
		if err := f.d.step(); err != nil {
			return n, err
		}
		if f.d.room > 0 {
			f.d.room--
		}
		f.i.now = append(f.i.now, b)
	}
	return len(p), nil
}

func (f *file) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.operation(); err != nil {
		return err
	}
	f.i.synced = slices.Clone(f.i.now)
	return nil
}

func (f *file) Close() error { return nil }

// Rename implements [disk.FS].
func (d *Disk) Rename(oldName, newName string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.operation(); err != nil {
		return err
	}
	oldName, newName = path.Clean(oldName), path.Clean(newName)
	i := d.now[oldName]
	if i == nil {
		return notExist("rename", oldName)
	}
	delete(d.now, oldName)
	d.now[newName] = i
	return nil
}

// Remove implements [disk.FS].
func (d *Disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.operation(); err != nil {
		return err
	}
	name = path.Clean(name)
	if d.now[name] == nil {
		return notExist("remove", name)
	}
	delete(d.now, name)
	return nil
}

// List implements [disk.FS].
func (d *Disk) List(dir string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	dir = path.Clean(dir)
	if !d.dirs[dir] {
		return nil, notExist("list", dir)
	}
	var names []string
	for n := range d.now {
		if path.Dir(n) == dir {
			names = append(names, path.Base(n))
		}
	}
	slices.Sort(names)
	return names, nil
}

// MkdirAll implements [disk.FS].
func (d *Disk) MkdirAll(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.operation(); err != nil {
		return err
	}
	dir = path.Clean(dir)
	for d.dirs[dir] = true; strings.Contains(dir, "/"); d.dirs[dir] = true {
		dir = path.Dir(dir)
	}
	return nil
}

// SyncDir implements [disk.FS].
func (d *Disk) SyncDir(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.operation(); err != nil {
		return err
	}
	dir = path.Clean(dir)
	for n := range d.synced {
		if path.Dir(n) == dir && d.now[n] == nil {
			delete(d.synced, n)
		}
	}
	for n, i := range d.now {
		if path.Dir(n) == dir {
			d.synced[n] = i
		}
	}
	return nil
}
