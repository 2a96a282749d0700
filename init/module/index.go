package module

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// IndexPath is where the index lies in the image; file names in it are
// relative to its folder.
const IndexPath = "/lib/modules/index"

// Kind says when a module is loaded.
type Kind string

// Kinds of modules.
const (
	Boot     Kind = "boot"     // always, before the services
	Hardware Kind = "hardware" // when a device with a matching modalias is there
	Late     Kind = "late"     // the same, but only when the services are up: nothing waits for it
	Demand   Kind = "demand"   // when asked for: by PID 1, by the kernel (modprobe), or as a dependency
	Builtin  Kind = "builtin"  // never: the kernel has it; so asking for it is no error
)

// Valid reports whether k is one of the kinds.
func (k Kind) Valid() bool {
	return k == Builtin || k == Boot || k == Hardware || k == Late || k == Demand
}

// Module is one module in the image.
type Module struct {
	Name string // with underscores, as in /proc/modules
	Kind Kind
	File string // relative to the index
	// Needs are the modules to load before it: its symbols' owners and its
	// soft dependencies. All of them are in the index.
	Needs []string
	// Aliases are the patterns (shell globs) it answers to, in Normal form in
	// an index that was read.
	Aliases []string
}

// Index is the list of modules in the image, in the order of the list it was
// built from.
type Index []Module

// Normal gives the form of a module name or alias that comparisons use: the
// kernel treats dash and underscore as the same.
func Normal(name string) string { return strings.ReplaceAll(name, "-", "_") }

// WriteTo writes the index as text:
//
//	module NAME KIND FILE [NEED,NEED…]
//	alias NAME PATTERN
func (x Index) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	for _, m := range x {
		fmt.Fprintf(&b, "module %s %s %s %s\n", m.Name, m.Kind, m.File, cmp.Or(strings.Join(m.Needs, ","), "-"))
		var aliases []string
		for _, a := range m.Aliases {
			aliases = append(aliases, Normal(a))
		}
		slices.Sort(aliases)
		for _, a := range slices.Compact(aliases) {
			fmt.Fprintf(&b, "alias %s %s\n", m.Name, a)
		}
	}
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

// ReadIndex reads what WriteTo wrote. An error names the line.
func ReadIndex(r io.Reader) (Index, error) {
	var x Index
	at := make(map[string]int)
	sc := bufio.NewScanner(r)
	for n := 1; sc.Scan(); n++ {
		f := strings.Fields(sc.Text())
		switch {
		case len(f) == 0:
		case f[0] == "module" && len(f) == 5:
			m := Module{Name: f[1], Kind: Kind(f[2]), File: f[3]}
			if !m.Kind.Valid() {
				return nil, fmt.Errorf("module index line %d: %q is not a kind of module", n, f[2])
			}
			if f[4] != "-" {
				m.Needs = strings.Split(f[4], ",")
			}
			if _, dup := at[m.Name]; dup {
				return nil, fmt.Errorf("module index line %d: %s is listed twice", n, m.Name)
			}
			at[m.Name] = len(x)
			x = append(x, m)
		case f[0] == "alias" && len(f) == 3:
			i, ok := at[f[1]]
			if !ok {
				return nil, fmt.Errorf("module index line %d: alias of %s, which is not in the index", n, f[1])
			}
			x[i].Aliases = append(x[i].Aliases, f[2])
		default:
			return nil, fmt.Errorf("module index line %d: %q is neither a module nor an alias", n, sc.Text())
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("read module index: %w", err)
	}
	for _, m := range x {
		for _, need := range m.Needs {
			if _, ok := at[need]; !ok {
				return nil, fmt.Errorf("module index: %s needs %s, which is not in the index", m.Name, need)
			}
		}
	}
	return x, nil
}

// Find returns the names of the modules that are called want or answer to it.
func (x Index) Find(want string) []string {
	want = Normal(want)
	var out []string
	for _, m := range x {
		if m.Name == want || m.answers(want) {
			out = append(out, m.Name)
		}
	}
	return out
}

// answers reports whether an alias pattern matches; want is in Normal form.
func (m *Module) answers(want string) bool {
	return slices.ContainsFunc(m.Aliases, func(a string) bool { return matches(a, want) })
}

// matches compares an alias with a pattern, both in Normal form. Almost all
// patterns differ before their first wildcard, and path.Match is slow.
func matches(pattern, alias string) bool {
	i := strings.IndexAny(pattern, "*?[")
	if i < 0 {
		return pattern == alias
	}
	if !strings.HasPrefix(alias, pattern[:i]) {
		return false
	}
	ok, err := path.Match(pattern, alias)
	return err == nil && ok
}

// pattern is an alias of a module.
type pattern struct{ module, pattern string }

// patterns are the aliases of all modules of a kind by the bus they are for, in
// the order of the index: most devices are on buses that no driver is wanted for.
func (x Index) patterns(kind Kind) map[string][]pattern {
	out := make(map[string][]pattern)
	for _, m := range x {
		if m.Kind != kind {
			continue
		}
		for _, a := range m.Aliases {
			out[bus(a)] = append(out[bus(a)], pattern{m.Name, a})
		}
	}
	return out
}

// bus is what an alias begins with, e.g. "pci"; empty for a pattern that leaves
// it open ("acpi*:PNP0C0A:*").
func bus(alias string) string {
	b, _, _ := strings.Cut(alias, ":")
	if strings.ContainsAny(b, "*?[") {
		return ""
	}
	return b
}
