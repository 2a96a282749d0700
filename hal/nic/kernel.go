package nic

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"

	"github.com/twinkeep/twinkeep/hal/rtnl"
)

// Kernel is the interface table of the network namespace of the calling thread.
type Kernel struct{}

var _ Links = Kernel{}

// Names implements Links.
func (Kernel) Names() ([]string, error) {
	links, err := rtnl.Links()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	var names []string
	for _, l := range links {
		names = append(names, l.Attrs().Name)
		names = append(names, l.Attrs().AltNames...)
	}
	return names, nil
}

// Rename implements Links. An interface that was up is up again afterwards, whether or not the rename worked; the
// addresses and routes that it loses by going down are the business of whoever had set them. The image renames before
// anything is configured.
func (Kernel) Rename(from, to string) error {
	link, err := netlink.LinkByName(from)
	if err != nil {
		return fmt.Errorf("find interface: %w", err)
	}
	wasUp := link.Attrs().Flags&net.FlagUp != 0
	if wasUp {
		if err := netlink.LinkSetDown(link); err != nil {
			return fmt.Errorf("take interface down: %w", err)
		}
	}
	err = netlink.LinkSetName(link, to)
	if wasUp { // by index, so the name does not matter
		if upErr := netlink.LinkSetUp(link); upErr != nil {
			err = errors.Join(err, fmt.Errorf("bring interface up again: %w", upErr))
		}
	}
	return err
}
