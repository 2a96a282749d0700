// Package rtnl reads lists of the kernel's routing netlink whole.
package rtnl

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// tries is how often a list is asked for. Something that changes all the time has to change within each of a few dozen microseconds to defeat it.
const tries = 20

// Whole asks for a list again while the kernel says that it changed under the reader (NLM_F_DUMP_INTR, linux/netlink.h): that is no fault, and happens when
// several programs set up interfaces at once. After 20 tries it gives what it has, and netlink.ErrDumpInterrupted.
func Whole[T any](list func() (T, error)) (T, error) {
	for n := 1; ; n++ {
		v, err := list()
		if n == tries || !errors.Is(err, netlink.ErrDumpInterrupted) {
			return v, err
		}
	}
}

// Links lists the interfaces.
func Links() ([]netlink.Link, error) { return Whole(netlink.LinkList) }

// Addrs lists the addresses of a link, of all with nil.
func Addrs(l netlink.Link) ([]netlink.Addr, error) {
	return Whole(func() ([]netlink.Addr, error) { return netlink.AddrList(l, netlink.FAMILY_ALL) })
}

// Routes lists the routes that are as filter says in the fields of mask (netlink.RT_FILTER_*).
func Routes(filter *netlink.Route, mask uint64) ([]netlink.Route, error) {
	return Whole(func() ([]netlink.Route, error) { return netlink.RouteListFiltered(netlink.FAMILY_ALL, filter, mask) })
}

// Neighbours lists the neighbours on a link.
func Neighbours(link int) ([]netlink.Neigh, error) {
	return Whole(func() ([]netlink.Neigh, error) { return netlink.NeighList(link, netlink.FAMILY_ALL) })
}
