package port

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/mdlayher/netlink"
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
//
// vishvananda/netlink is not used here: it drops notifications of changes that another process asked for, because
// newer kernels send them with that process's port ID.
func Links(stop <-chan struct{}, report func(LinkState)) error {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{Groups: unix.RTMGRP_LINK})
	if err != nil {
		return fmt.Errorf("subscribe to link changes: %w", err)
	}
	defer conn.Close()
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-stop:
			conn.Close()
		case <-done:
		}
	}()
	if err := conn.SetReadBuffer(1 << 20); err != nil {
		return fmt.Errorf("subscribe to link changes: %w", err)
	}
	for {
		// The list comes after the subscription, so no change can fall in between; and again after a loss.
		_, err := conn.Send(netlink.Message{
			Header: netlink.Header{Type: unix.RTM_GETLINK, Flags: netlink.Request | netlink.Dump},
			Data:   make([]byte, unix.SizeofIfInfomsg),
		})
		for err == nil {
			var msgs []netlink.Message
			if msgs, err = conn.Receive(); err == nil {
				for _, m := range msgs {
					if l, ok := parseLink(m); ok {
						report(l)
					}
				}
			}
		}
		select {
		case <-stop:
			return nil
		default:
		}
		if !errors.Is(err, unix.ENOBUFS) || errors.Is(err, os.ErrClosed) {
			return fmt.Errorf("watch links: %w", err)
		}
	}
}

// parseLink reads RTM_NEWLINK and RTM_DELLINK (rtnetlink(7)).
func parseLink(m netlink.Message) (LinkState, bool) {
	if m.Header.Type != unix.RTM_NEWLINK && m.Header.Type != unix.RTM_DELLINK || len(m.Data) < unix.SizeofIfInfomsg {
		return LinkState{}, false
	}
	attrs, err := netlink.NewAttributeDecoder(m.Data[unix.SizeofIfInfomsg:])
	if err != nil {
		return LinkState{}, false
	}
	l := LinkState{Present: m.Header.Type == unix.RTM_NEWLINK}
	for attrs.Next() {
		if attrs.Type() == unix.IFLA_IFNAME {
			l.Device = attrs.String()
		}
	}
	const up = unix.IFF_UP | unix.IFF_LOWER_UP
	l.Up = l.Present && binary.NativeEndian.Uint32(m.Data[8:])&up == up
	return l, attrs.Err() == nil && l.Device != ""
}
