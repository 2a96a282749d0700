// Package hardware compares the hardware of two members of a cluster, and names what gives them different shared MACs: Clavister's "identical
// hardware settings" (bus, slot, port), whose absence is the classic cause of two active members. It is pure.
package hardware

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/twinkeep/twinkeep/firmware/api"
)

// Effect is what a difference leads to, the worst first.
type Effect string

const (
	// Separate: the members have different shared MACs on an interface, or one has none there. Heartbeats come from where they are not
	// expected, and traffic goes to a MAC that only one member answers.
	Separate Effect = "separate"
	// Risk: nothing is wrong now, but ports can change places, or a takeover meets a slower box.
	Risk Effect = "risk"
	// Note: it is different, and that is all.
	Note Effect = "note"
)

// Difference is one thing in which two members differ.
type Difference struct {
	Effect    Effect `json:"effect"`
	Interface string `json:"interface,omitempty"` // empty: the whole box
	What      string `json:"what"`
	Here      string `json:"here"`
	There     string `json:"there"`
	Remedy    string `json:"remedy,omitempty"`
}

// Comparison is what Compare found.
type Comparison struct {
	Here  string `json:"here"` // whose hardware it is
	There string `json:"there"`
	// SameSharedMACs: every interface has the same shared MAC on both.
	SameSharedMACs bool         `json:"same_shared_macs"`
	Ports          int          `json:"ports"` // that were compared
	Differences    []Difference `json:"differences"`
}

// Compare compares the hardware of two members, whose names are given, the worst differences first.
func Compare(hereName string, here api.Hardware, thereName string, there api.Hardware) Comparison {
	c := Comparison{Here: hereName, There: thereName, Differences: []Difference{}}
	c.ports(here.NICs, there.NICs)
	c.collisions(hereName, here.NICs)
	c.collisions(thereName, there.NICs)
	c.box(here, there)
	slices.SortStableFunc(c.Differences, func(a, b Difference) int { return cmp.Compare(rank(a.Effect), rank(b.Effect)) })
	c.SameSharedMACs = !slices.ContainsFunc(c.Differences, func(d Difference) bool { return d.Effect == Separate })
	return c
}

func rank(e Effect) int { return slices.Index([]Effect{Separate, Risk, Note}, e) }

func (c *Comparison) add(e Effect, port, what, here, there, remedy string) {
	c.Differences = append(c.Differences, Difference{e, port, what, here, there, remedy})
}

// inUse reports whether the configuration of its member names a port; without any that is named it cannot be told. Others carry nothing.
func inUse(n api.NIC, list []api.NIC) bool {
	return n.Interface != "" || !slices.ContainsFunc(list, func(o api.NIC) bool { return o.Interface != "" })
}

// effect is that of what separates members, if the port is in use.
func effect(used bool) Effect {
	if used {
		return Separate
	}
	return Note
}

// name is what an interface is called on all members.
func name(n api.NIC) string { return cmp.Or(n.Interface, n.Device) }

func find(list []api.NIC, match func(api.NIC) bool) (api.NIC, bool) {
	i := slices.IndexFunc(list, match)
	if i < 0 {
		return api.NIC{}, false
	}
	return list[i], true
}

// ports compares them by their names: an interface of the cluster has one name on all members.
func (c *Comparison) ports(here, there []api.NIC) {
	if len(here) != len(there) {
		c.add(Risk, "", "number of ports", fmt.Sprint(len(here)), fmt.Sprint(len(there)), "ports are named in the order of their places: with another number of cards a name can mean another port")
	}
	for _, a := range here {
		b, both := find(there, func(n api.NIC) bool { return name(n) == name(a) })
		if !both {
			c.missing(a, inUse(a, here), c.There, describe(a), "not there")
			continue
		}
		c.Ports++
		c.port(a, b, effect(inUse(a, here) || inUse(b, there)), there)
	}
	for _, b := range there {
		if _, both := find(here, func(n api.NIC) bool { return name(n) == name(b) }); !both {
			c.missing(b, inUse(b, there), c.Here, "not there", describe(b))
		}
	}
}

func describe(n api.NIC) string { return fmt.Sprintf("%s at %s, NN %02x", n.Driver, n.Place, n.NN) }

// missing is a port that one member has.
func (c *Comparison) missing(n api.NIC, used bool, lacks, here, there string) {
	c.add(effect(used), name(n), "port", here, there, fmt.Sprintf("put the same card into %s, or take the interface out of the configuration; see hardware and ifstat there", lacks))
}

func (c *Comparison) port(a, b api.NIC, separate Effect, there []api.NIC) {
	port := name(a)
	macs := [2]string{cmp.Or(a.SharedMAC, fmt.Sprintf("NN %02x", a.NN)), cmp.Or(b.SharedMAC, fmt.Sprintf("NN %02x", b.NN))}
	switch {
	case a.NN == b.NN && a.SharedMAC != "" && b.SharedMAC != "" && a.SharedMAC != b.SharedMAC:
		c.add(separate, port, "cluster ID", macs[0], macs[1], "the last byte of the shared MAC is the cluster ID: set cluster.id to the same on both")
	case a.NN != b.NN && a.Place == b.Place:
		c.add(separate, port, "shared MAC, by nn set by hand", macs[0], macs[1], fmt.Sprintf("write the same nn: for %s into the node files of both, or leave it out on both", port))
	case a.NN != b.NN:
		c.add(separate, port, "shared MAC, by PCI place", fmt.Sprintf("%s at %s", macs[0], a.Place), fmt.Sprintf("%s at %s", macs[1], b.Place), c.replace(a, b, there))
	case a.Place != b.Place:
		c.add(Note, port, "PCI place", a.Place, b.Place, "the NN is the same all the same")
	}
	if a.Driver != b.Driver {
		c.add(Risk, port, "driver", a.Driver, b.Driver, "give both members the same kind of card (virtual machine: the same model): other cards can be found in another order, and differ in speed and offloads")
	} else if a.IDs != b.IDs {
		c.add(Note, port, "kind of card", a.IDs, b.IDs, "")
	}
}

// replace says how a port gets the place that it has on the other member.
func (c *Comparison) replace(a, b api.NIC, there []api.NIC) string {
	byHand := fmt.Sprintf("or write the same nn: for %s into the node files of both", name(a))
	if other, taken := find(there, func(n api.NIC) bool { return n.Place == a.Place }); taken && name(other) != name(a) {
		return fmt.Sprintf("the ports are in another order: the place %s is %s on %s; name them alike (device: in the node file) and swap the cables, %s", a.Place, name(other), c.There, byHand)
	}
	return fmt.Sprintf("move the card of %s into the slot it has on the other member (virtual machine: the same bus and slot in its settings), %s", name(a), byHand)
}

// collisions are ports of one member with one NN.
func (c *Comparison) collisions(member string, list []api.NIC) {
	for i, a := range list {
		for _, b := range list[i+1:] {
			if a.NN == b.NN && inUse(a, list) && inUse(b, list) {
				c.add(Separate, name(b), "NN on "+member, fmt.Sprintf("%02x, as %s", b.NN, name(a)), "", fmt.Sprintf("two ports would have one shared MAC: write another nn: for %s into the node files of both", name(b)))
			}
		}
	}
}

// box compares what is not ports.
func (c *Comparison) box(a, b api.Hardware) {
	for _, f := range []struct {
		effect            Effect
		what, here, there string
	}{
		{Risk, "board", a.Board, b.Board}, {Risk, "machine", strings.TrimSpace(a.Vendor + " " + a.Product), strings.TrimSpace(b.Vendor + " " + b.Product)},
		{Note, "CPU", a.CPU, b.CPU}, {Risk, "CPU cores", fmt.Sprint(a.Cores), fmt.Sprint(b.Cores)}, {Risk, "memory", memory(a.MemoryTotal), memory(b.MemoryTotal)},
		{Note, "kernel", a.Kernel, b.Kernel}, {Note, "watchdog", cmp.Or(a.Watchdog, "none"), cmp.Or(b.Watchdog, "none")},
	} {
		if f.here != f.there {
			c.add(f.effect, "", f.what, f.here, f.there, "")
		}
	}
}

// memory rounds to an eighth of a GiB: firmware keeps a little for itself, not the same on each box.
func memory(bytes uint64) string {
	const step = 1 << 27
	return fmt.Sprintf("%.3g GiB", float64((bytes+step/2)/step)/8)
}
