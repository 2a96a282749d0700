package nic

import (
	"errors"
	"fmt"
	"slices"
)

// Step is one rename of a kernel interface.
type Step struct{ From, To string }

// Links is the kernel's table of interfaces; [Kernel] is the real one.
type Links interface {
	// Names returns the names of all interfaces, alternative names included: both block a rename.
	Names() ([]string, error)
	// Rename renames an interface, taking it down for that moment if need be.
	Rename(from, to string) error
}

// Rename gives every NIC its name. An interface that cannot be renamed does not keep the others from their names; the
// errors are joined. One whose second step failed is left under a temporary name, which its error tells; after a new
// Scan, Rename can be called again.
func Rename(links Links, named []Named) error {
	present, err := links.Names()
	if err != nil {
		return fmt.Errorf("rename NICs: %w", err)
	}
	steps, err := Plan(present, named)
	if err != nil {
		return fmt.Errorf("rename NICs: %w", err)
	}
	var errs []error
	for _, s := range steps {
		if err := links.Rename(s.From, s.To); err != nil {
			errs = append(errs, fmt.Errorf("rename NIC %s to %s: %w", s.From, s.To, err))
		}
	}
	return errors.Join(errs...)
}

// Plan returns the renames that lead from the kernel names of named to the wanted ones, where present lists every
// name in use. Names may be swapped or rotated among NICs: whoever holds a name that another NIC is to get first moves
// out of the way to a temporary name. NICs that have their name already need no step.
func Plan(present []string, named []Named) ([]Step, error) {
	inUse := make(map[string]bool)
	for _, name := range present {
		inUse[name] = true
	}
	from := make(map[string]bool)  // kernel names that some NIC gives up
	wanted := make(map[string]int) // name to the index of the NIC that gets it
	for i, n := range named {
		if !inUse[n.Kernel] {
			return nil, fmt.Errorf("NIC %s (%v) has gone: scan again", n.Kernel, n.Place())
		}
		if j, twice := wanted[n.Name]; twice {
			return nil, fmt.Errorf("NICs at %v and %v are both to be named %s", named[j].Place(), n.Place(), n.Name)
		}
		wanted[n.Name] = i
		from[n.Kernel] = true
	}

	var away, home []Step
	for _, n := range named {
		if n.Kernel == n.Name {
			continue
		}
		if err := CheckName(n.Name); err != nil {
			return nil, fmt.Errorf("NIC %s (%v): %w", n.Kernel, n.Place(), err)
		}
		if inUse[n.Name] && !from[n.Name] {
			return nil, fmt.Errorf("NIC %s (%v) cannot be named %s: another interface has that name; rename or remove it",
				n.Kernel, n.Place(), n.Name)
		}
		now := n.Kernel
		if _, blocks := wanted[now]; blocks {
			tmp := temporary(inUse, wanted)
			inUse[tmp] = true
			away = append(away, Step{From: now, To: tmp})
			now = tmp
		}
		home = append(home, Step{From: now, To: n.Name})
	}
	return slices.Concat(away, home), nil
}

// temporary returns a name that nobody has and nobody is about to get.
func temporary(inUse map[string]bool, wanted map[string]int) string {
	for i := 0; ; i++ {
		name := fmt.Sprintf("twk%d", i)
		if _, clash := wanted[name]; !clash && !inUse[name] {
			return name
		}
	}
}
