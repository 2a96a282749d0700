package port

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// LinkState is what the kernel says of one NIC.
type LinkState struct {
	Device  string
	Present bool
	Up      bool // administratively up and with carrier
}

// Links reports NICs until stop is closed: first all that exist, then every change. The kernel's
// notification arrives within a scheduler tick of the carrier's change.
func Links(stop <-chan struct{}, report func(LinkState)) error {
	updates := make(chan netlink.LinkUpdate, 64)
	err := netlink.LinkSubscribeWithOptions(updates, stop, netlink.LinkSubscribeOptions{ListExisting: true})
	if err != nil {
		return fmt.Errorf("subscribe to link changes: %w", err)
	}
	for u := range updates {
		up := u.IfInfomsg.Flags&unix.IFF_UP != 0 && u.IfInfomsg.Flags&unix.IFF_LOWER_UP != 0
		gone := u.Header.Type == unix.RTM_DELLINK
		report(LinkState{Device: u.Link.Attrs().Name, Present: !gone, Up: up && !gone})
	}
	return nil
}
