package module

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Insert puts the module in a file into the kernel. Loader uses finit_module(2);
// tests count.
type Insert func(file string) error

// Finit is Insert on the running kernel. A module that is already there is no
// error.
func Finit(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.FinitModule(int(f.Fd()), "", 0)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// Loader loads modules of one index. It is not safe for concurrent use.
type Loader struct {
	index  Index
	dir    string
	insert Insert
	byName map[string]*Module
	loaded map[string]error // with the error of the attempt
	order  []string
}

// Open reads the index at path; module files lie beside it.
func Open(path string, insert Insert) (*Loader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open module index: %w", err)
	}
	defer f.Close()
	x, err := ReadIndex(f)
	if err != nil {
		return nil, err
	}
	l := &Loader{
		index: x, dir: filepath.Dir(path), insert: insert,
		byName: make(map[string]*Module, len(x)), loaded: make(map[string]error),
	}
	for i := range x {
		l.byName[x[i].Name] = &x[i]
	}
	return l, nil
}

// Loaded returns the modules loaded through l, in the order of loading.
func (l *Loader) Loaded() []string { return slices.Clone(l.order) }

// Load loads the module called name, or all that answer to it as an alias,
// with what they need.
func (l *Loader) Load(name string) error {
	names := l.index.Find(name)
	if len(names) == 0 {
		return fmt.Errorf("load module %s: not in the image; add it to buildroot/modules.txt", name)
	}
	var errs []error
	for _, n := range names {
		errs = append(errs, l.load(n, nil))
	}
	return errors.Join(errs...)
}

func (l *Loader) load(name string, path []string) error {
	if err, done := l.loaded[name]; done {
		return err
	}
	if slices.Contains(path, name) {
		return fmt.Errorf("load module %s: needs itself through %s", name, strings.Join(path, ", "))
	}
	m := l.byName[name]
	if m.Kind == Builtin {
		return nil
	}
	var err error
	for _, need := range m.Needs {
		if e := l.load(need, append(slices.Clone(path), name)); e != nil && err == nil {
			err = fmt.Errorf("load module %s: %w", name, e)
		}
	}
	// Soft dependencies may fail (crc32c_intel without the instruction), so
	// only the module itself decides.
	if e := l.insert(filepath.Join(l.dir, m.File)); e == nil {
		err = nil
		l.order = append(l.order, name)
	} else if err == nil {
		err = fmt.Errorf("load module %s: %w", name, e)
	}
	l.loaded[name] = err
	return err
}

// Boot loads all modules of kind Boot, and returns an error for each that
// could not be loaded.
func (l *Loader) Boot() []error {
	var errs []error
	for _, m := range l.index {
		if m.Kind == Boot {
			if err := l.load(m.Name, nil); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errs
}

// Hardware loads the modules of the given kind, Hardware or Late, whose devices
// are in sysfs at root ("/sys"). A driver can make new devices appear (virtio_pci makes virtio
// devices, lpc_ich makes a watchdog), so it looks again until nothing is new.
func (l *Loader) Hardware(root string, kind Kind) []error {
	wanted := l.index.patterns(kind)
	if len(wanted) == 0 {
		return nil // a kernel without modules: nothing to look for
	}
	var errs []error
	seen := make(map[string]bool)
	for {
		aliases, fresh := newDevices(root, seen)
		for _, alias := range aliases {
			alias = Normal(alias)
			for _, p := range slices.Concat(wanted[bus(alias)], wanted[""]) {
				if _, done := l.loaded[p.module]; done || !matches(p.pattern, alias) {
					continue
				}
				if err := l.load(p.module, nil); err != nil {
					errs = append(errs, err)
				}
			}
		}
		if !fresh {
			return errs
		}
	}
}

// Device loads what a device that has just come needs: the modules of kinds Hardware and Late that match its modalias.
func (l *Loader) Device(alias string) []error {
	var errs []error
	alias = Normal(alias)
	for _, kind := range []Kind{Hardware, Late} {
		wanted := l.index.patterns(kind)
		for _, p := range slices.Concat(wanted[bus(alias)], wanted[""]) {
			if _, done := l.loaded[p.module]; done || !matches(p.pattern, alias) {
				continue
			}
			if err := l.load(p.module, nil); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errs
}

// newDevices returns what the devices on all buses call themselves that are not
// in seen, sorted, and adds the devices to it. Thousands of files are looked at
// during a boot: no device is asked twice, nor whether its file is there.
func newDevices(root string, seen map[string]bool) (aliases []string, fresh bool) {
	buses, err := os.ReadDir(filepath.Join(root, "bus"))
	if err != nil {
		return nil, false
	}
	for _, b := range buses {
		dir := filepath.Join(root, "bus", b.Name(), "devices")
		devices, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, d := range devices {
			name := filepath.Join(dir, d.Name())
			if seen[name] {
				continue
			}
			seen[name], fresh = true, true
			text, err := os.ReadFile(filepath.Join(name, "modalias"))
			if err != nil {
				continue // it has none, or has gone
			}
			if s := strings.TrimSpace(string(text)); s != "" {
				aliases = append(aliases, s)
			}
		}
	}
	slices.Sort(aliases)
	return slices.Compact(aliases), fresh
}
