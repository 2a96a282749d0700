package probe

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// udpSocket is a blocking UDP socket without the runtime's poller between kernel and thread.
type udpSocket struct{ fd int }

// pollEvery bounds how long a receive blocks, so that a loop sees that it should end.
const pollEvery = 100 * time.Millisecond

func openUDP(addr netip.Addr) (udpSocket, error) {
	family := unix.AF_INET
	if addr.Unmap().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return udpSocket{}, fmt.Errorf("open UDP socket: %w", err)
	}
	tv := unix.NsecToTimeval(int64(pollEvery))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		unix.Close(fd)
		return udpSocket{}, fmt.Errorf("set receive timeout: %w", err)
	}
	return udpSocket{fd}, nil
}

func (s udpSocket) bind(a netip.AddrPort) error {
	if err := unix.Bind(s.fd, sockaddr(a)); err != nil {
		return fmt.Errorf("bind UDP %v: %w", a, err)
	}
	return nil
}

func (s udpSocket) local() netip.AddrPort {
	sa, err := unix.Getsockname(s.fd)
	if err != nil {
		return netip.AddrPort{}
	}
	return addrPort(sa)
}

func (s udpSocket) close() { unix.Close(s.fd) }

// transient reports errors that a probe must live through: nothing arrived in time, or an ICMP error about an
// earlier datagram.
func transient(err error) bool {
	switch err {
	case unix.EAGAIN, unix.EINTR, unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN,
		unix.ENETDOWN, unix.ENOBUFS, unix.EPERM, unix.EADDRNOTAVAIL:
		return true
	}
	return false
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if ip := a.Addr().Unmap(); ip.Is6() {
		return &unix.SockaddrInet6{Port: int(a.Port()), Addr: ip.As16()}
	} else if ip.Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: ip.As4()}
	}
	return &unix.SockaddrInet4{Port: int(a.Port())}
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
