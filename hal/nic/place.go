package nic

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// Place is where a network interface, or a bridge on the way to it, sits on the PCI tree.
type Place struct {
	Domain uint32 // PCI segment; 0 but for machines with several, e.g. 0x10000 behind Intel VMD
	Bus    uint8
	Slot   uint8 // 0..31
	// Port is the function number, 0..7. An interface that shares its function with others (ConnectX-3, Chelsio)
	// has its dev_port added, so its port may exceed 7 and need not be a function that lspci shows.
	Port uint8
}

// String returns p as PCI tools write it: "0000:01:00.0". A port above 7 is written in decimal too.
func (p Place) String() string {
	return fmt.Sprintf("%04x:%02x:%02x.%d", p.Domain, p.Bus, p.Slot, p.Port)
}

// ParsePlace reads a place in one of two forms: "0000:01:00.0", hexadecimal domain:bus:slot and decimal port, the
// domain with 4 to 8 digits; or "1/0/0", decimal bus/slot/port in domain 0.
func ParsePlace(s string) (Place, error) {
	p, ok := parsePCI(s)
	if !ok {
		p, ok = parseShort(s)
	}
	if !ok {
		return Place{}, fmt.Errorf("parse PCI place %q: want domain:bus:slot.port such as 0000:01:00.0, "+
			"or bus/slot/port such as 1/0/0", s)
	}
	return p, nil
}

func parsePCI(s string) (Place, bool) {
	domain, rest, ok1 := strings.Cut(s, ":")
	bus, rest, ok2 := strings.Cut(rest, ":")
	slot, port, ok3 := strings.Cut(rest, ".")
	if !ok1 || !ok2 || !ok3 || len(domain) < 4 || len(domain) > 8 || len(bus) != 2 || len(slot) != 2 {
		return Place{}, false
	}
	return place(number(domain, 16, 32), number(bus, 16, 8), number(slot, 16, 8), number(port, 10, 8))
}

func parseShort(s string) (Place, bool) {
	f := strings.Split(s, "/")
	if len(f) != 3 {
		return Place{}, false
	}
	return place(0, number(f[0], 10, 8), number(f[1], 10, 8), number(f[2], 10, 8))
}

func place(domain, bus, slot, port int64) (Place, bool) {
	if domain < 0 || bus < 0 || slot < 0 || slot > 31 || port < 0 {
		return Place{}, false
	}
	return Place{Domain: uint32(domain), Bus: uint8(bus), Slot: uint8(slot), Port: uint8(port)}, true
}

// number returns -1 for what is not an unsigned number of the given base and size. ParseUint takes no sign and, with
// an explicit base, neither prefix nor underscores.
func number(s string, base, bits int) int64 {
	n, err := strconv.ParseUint(s, base, bits)
	if err != nil {
		return -1
	}
	return int64(n)
}

// Path leads from a root bus to an interface: every bridge on the way and, last, the interface's own place. Written
// "0000:00:02.2>0000:01:00.0".
type Path []Place

// maxHops bounds a path read from outside. Real trees are at most a root port, a few switches and the device deep.
const maxHops = 32

// ParsePath reads places joined by ">", from the root downwards; spaces around ">" are allowed.
func ParsePath(s string) (Path, error) {
	if n := strings.Count(s, ">") + 1; n > maxHops {
		return nil, fmt.Errorf("parse PCI path: %d hops, at most %d are allowed", n, maxHops)
	}
	var path Path
	for hop := range strings.SplitSeq(s, ">") {
		p, err := ParsePlace(strings.TrimSpace(hop))
		if err != nil {
			return nil, err
		}
		path = append(path, p)
	}
	return path, nil
}

// String returns the form that ParsePath reads.
func (p Path) String() string {
	hops := make([]string, len(p))
	for i, h := range p {
		hops[i] = h.String()
	}
	return strings.Join(hops, ">")
}

// Place returns the last hop, the interface's own place; the zero Place for an empty path.
func (p Path) Place() Place {
	if len(p) == 0 {
		return Place{}
	}
	return p[len(p)-1]
}

// Compare orders paths by topology: the root bus, then slot and port hop by hop. It returns 0 for paths that take the
// same way, even when enumeration numbered the buses on it differently.
func (p Path) Compare(q Path) int {
	for i := range min(len(p), len(q)) {
		a, b := p[i], q[i]
		var c int
		if i == 0 {
			// Several root buses share domain 0 on large machines; firmware fixes their numbers.
			c = cmp.Or(cmp.Compare(a.Domain, b.Domain), cmp.Compare(a.Bus, b.Bus))
		}
		if c = cmp.Or(c, cmp.Compare(a.Slot, b.Slot), cmp.Compare(a.Port, b.Port)); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(p), len(q))
}

// Names reports whether p, as written in a board file, means the interface that full leads to. A path of several hops
// names it by topology, whatever the bus numbers; a single place must equal the interface's own, bus number included.
func (p Path) Names(full Path) bool {
	if len(p) == 1 {
		return len(full) > 0 && p[0] == full.Place()
	}
	return len(p) > 0 && p.Compare(full) == 0
}
