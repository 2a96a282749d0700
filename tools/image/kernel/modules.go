package kernel

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/twinkeep/twinkeep/init/module"
)

// Wanted is one line of buildroot/modules.txt.
type Wanted struct {
	Kind  module.Kind
	Name  string
	Needs []string
}

// ParseWanted reads the module list. An error names the line.
func ParseWanted(r io.Reader) ([]Wanted, error) {
	var out []Wanted
	seen := make(map[string]int)
	sc := bufio.NewScanner(r)
	for n := 1; sc.Scan(); n++ {
		text, _, _ := strings.Cut(sc.Text(), "#")
		f := strings.Fields(text)
		if len(f) == 0 {
			continue
		}
		w := Wanted{Kind: module.Kind(f[0])}
		if !w.Kind.Valid() || w.Kind == module.Builtin {
			return nil, fmt.Errorf("line %d: %q is not boot, hardware, late or demand", n, f[0])
		}
		if len(f) == 1 || len(f) == 3 || len(f) > 3 && f[2] != "needs" {
			return nil, fmt.Errorf("line %d: want KIND NAME [needs NAME…], have %q", n, strings.TrimSpace(text))
		}
		w.Name = module.Normal(f[1])
		if len(f) > 3 {
			w.Needs = f[3:]
		}
		if first, dup := seen[w.Name]; dup {
			return nil, fmt.Errorf("line %d: %s is already on line %d", n, w.Name, first)
		}
		seen[w.Name] = n
		out = append(out, w)
	}
	return out, sc.Err()
}

// File is one module to put into the image.
type File struct {
	Name string // in the image, beside the index
	Data []byte
}

// Selection is the modules of an image.
type Selection struct {
	Index module.Index
	Files []File
	// Builtin names what the list wants and the kernel has built in.
	Builtin []string
}

// alsoKnown are soft dependencies that are aliases of several modules; the
// generic implementation is what must be there, an accelerated one is used
// when the processor has it.
var alsoKnown = map[string][]string{
	"crc32c":           {"crc32c_generic"},
	"crypto_crc32c":    {"crc32c_generic"},
	"crypto_sha256":    {"sha256_generic"},
	"crypto_crct10dif": {"crct10dif_common"},
}

// Select finds the wanted modules and what they need below dir
// (lib/modules/RELEASE).
func Select(ctx context.Context, dir string, wanted []Wanted) (*Selection, error) {
	files, err := find(dir)
	if err != nil {
		return nil, err
	}
	builtin, err := readBuiltin(dir)
	if err != nil {
		return nil, err
	}
	s := &Selection{}
	at := make(map[string]int)
	var add func(name string, kind module.Kind, needs []string, for_ string) error
	add = func(name string, kind module.Kind, needs []string, for_ string) error {
		if _, done := at[name]; done {
			return nil
		}
		file, ok := files[name]
		if !ok {
			return fmt.Errorf("module %s (%s) is neither in %s nor built into the kernel: take another kernel with --kernel, or remove it from the list", name, for_, dir)
		}
		data, err := readModule(ctx, file)
		if err != nil {
			return err
		}
		info, err := readModinfo(data)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		at[name] = -1 // on the way: a circle ends here
		m := module.Module{Name: name, Kind: kind, File: name + ".ko", Aliases: info.aliases}
		for _, dep := range slices.Concat(info.depends, info.softpre, needs) {
			dep = module.Normal(dep)
			hard := slices.Contains(info.depends, dep) || slices.Contains(needs, dep)
			for _, d := range withKnown(dep) {
				if builtin[d] || slices.Contains(m.Needs, d) {
					continue
				}
				if _, there := files[d]; !there && !hard {
					continue
				}
				if err := add(d, module.Demand, nil, "needed by "+name); err != nil {
					return err
				}
				m.Needs = append(m.Needs, d)
			}
		}
		at[name] = len(s.Index)
		s.Index = append(s.Index, m)
		s.Files = append(s.Files, File{Name: m.File, Data: data})
		return nil
	}
	for _, w := range wanted {
		if builtin[w.Name] {
			s.Builtin = append(s.Builtin, w.Name)
			continue
		}
		if i, done := at[w.Name]; done && i >= 0 {
			// Came in as a dependency before: it keeps its place, not its kind.
			s.Index[i].Kind = w.Kind
			continue
		}
		if err := add(w.Name, w.Kind, w.Needs, "wanted by the list"); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func withKnown(dep string) []string {
	if k, ok := alsoKnown[dep]; ok {
		return k
	}
	return []string{dep}
}

var moduleFile = regexp.MustCompile(`^(.+)\.ko(\.(zst|xz|gz))?$`)

// find maps module names to files.
func find(dir string) (map[string]string, error) {
	out := make(map[string]string)
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if m := moduleFile.FindStringSubmatch(d.Name()); m != nil && d.Type().IsRegular() {
			out[module.Normal(m[1])] = p
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list kernel modules: %w", err)
	}
	return out, nil
}

// readBuiltin reads modules.builtin: one path a line.
func readBuiltin(dir string) (map[string]bool, error) {
	b, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, fmt.Errorf("list modules built into the kernel: %w", err)
	}
	out := make(map[string]bool)
	for line := range strings.Lines(string(b)) {
		name := strings.TrimSuffix(filepath.Base(strings.TrimSpace(line)), ".ko")
		out[module.Normal(name)] = true
	}
	return out, nil
}
