package nic

import (
	"fmt"
	"regexp"
)

// MaxName is the longest name of a port. The macvlan on port P is called "P-vip", and Linux allows 15 characters.
const MaxName = 11

var portName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*$`)

// CheckName says what is wrong with name as the name of a port. Dots are refused because "G1.7" is how a VLAN is
// written; lo, all and default because the kernel has its own use for them (the last two in /proc/sys/net).
func CheckName(name string) error {
	switch {
	case name == "lo", name == "all", name == "default":
		return fmt.Errorf("port name %q is reserved by the kernel", name)
	case len(name) > MaxName:
		return fmt.Errorf("port name %q has %d characters: at most %d leave room for the suffix -vip",
			name, len(name), MaxName)
	case !portName.MatchString(name):
		return fmt.Errorf("port name %q: want a letter followed by letters, digits, - or _", name)
	}
	return nil
}

// Port is one line of a board's port table: what is printed on the case, and where that socket is wired to.
type Port struct {
	Name string
	Path Path // see Path.Names for how it is compared
}

// Named is a NIC together with the name that it should have.
type Named struct {
	NIC
	Name string
}

// Missing is a port of the table that no NIC was found for.
type Missing struct {
	Port
	// Taken is the name of the earlier port that means the same NIC, or empty when there is no NIC.
	Taken string
}

func (m Missing) Error() string {
	if m.Taken != "" {
		return fmt.Sprintf("port %s at %v: its NIC is already port %s: remove one of them from the board file",
			m.Name, m.Path, m.Taken)
	}
	return fmt.Sprintf("port %s: no NIC at %v: it is broken, disabled in the firmware setup or without a driver",
		m.Name, m.Path)
}

// Assign names nics, which must be in the order of [Scan], after a port table. Without a table (a generic board) they
// are G1, G2, … in that order. With one, NICs at a listed place get the name listed, and the rest the next free of X1,
// X2, …, so that a card added later never moves the name of a port. The result is in the order of nics; missing is in
// the order of the table.
func Assign(nics []NIC, table []Port) (named []Named, missing []Missing) {
	named = make([]Named, len(nics))
	for i, n := range nics {
		named[i].NIC = n
		if len(table) == 0 {
			named[i].Name = fmt.Sprintf("G%d", i+1)
		}
	}
	if len(table) == 0 {
		return named, nil
	}

	used := make(map[string]bool)
	for _, p := range table {
		used[p.Name] = true
		m, found := Missing{Port: p}, false
		for i := range named {
			if !p.Path.Names(named[i].Path) {
				continue
			}
			if found = named[i].Name == ""; found {
				named[i].Name = p.Name
				break
			}
			m.Taken = named[i].Name
		}
		if !found {
			missing = append(missing, m)
		}
	}
	next := 1
	for i := range named {
		for named[i].Name == "" {
			if x := fmt.Sprintf("X%d", next); !used[x] {
				named[i].Name = x
			}
			next++
		}
	}
	return named, missing
}
