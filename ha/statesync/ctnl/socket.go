package ctnl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dial opens a netfilter socket of the calling thread's network namespace.
func dial(flags int) (fd int, port uint32, err error) {
	fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|flags, unix.NETLINK_NETFILTER)
	if err != nil {
		return -1, 0, fmt.Errorf("open a netfilter socket: %w", err)
	}
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	var name unix.Sockaddr
	if err == nil {
		name, err = unix.Getsockname(fd)
	}
	if err != nil {
		unix.Close(fd)
		return -1, 0, fmt.Errorf("bind a netfilter socket: %w", err)
	}
	return fd, name.(*unix.SockaddrNetlink).Pid, nil
}

// setBuffer sizes a socket buffer, past the system's limit where the process may.
func setBuffer(fd, force, plain, size int) error {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, size) == nil {
		return nil
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, plain, size)
}

// ignorePort makes the kernel drop, before they are queued, events that a port's own requests caused. Netlink
// messages are in host order and BPF loads in network order, so the number is swapped.
func ignorePort(fd int, port uint32) error {
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], port)
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 12}, // nlmsghdr.nlmsg_pid
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: binary.BigEndian.Uint32(b[:]), Jt: 0, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 18},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog); err != nil {
		return fmt.Errorf("filter out own events: %w", err)
	}
	return nil
}

// batch receives many datagrams a system call (recvmmsg(2)).
type batch struct {
	headers []mmsghdr
	iovecs  []unix.Iovec
	slots   [][]byte
}

type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

func newBatch(n, size int) *batch {
	b := &batch{headers: make([]mmsghdr, n), iovecs: make([]unix.Iovec, n), slots: make([][]byte, n)}
	store := make([]byte, n*size)
	for i := range b.headers {
		b.slots[i] = store[i*size : (i+1)*size]
		b.iovecs[i].Base = &b.slots[i][0]
		b.iovecs[i].SetLen(size)
		b.headers[i].hdr.Iov = &b.iovecs[i]
		b.headers[i].hdr.SetIovlen(1)
	}
	return b
}

var errTruncated = errors.New("a netlink message is longer than expected")

// receive fills slots without waiting and gives how many.
func (b *batch) receive(fd int) (int, error) {
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.headers[0])), uintptr(len(b.headers)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// datagram is what is in a slot.
func (b *batch) datagram(i int) ([]byte, error) {
	h := &b.headers[i]
	if h.hdr.Flags&unix.MSG_TRUNC != 0 {
		return nil, errTruncated
	}
	return b.slots[i][:h.n], nil
}

// wrap gives a non-blocking socket to the runtime's poller, so that waiting for it costs no thread.
func wrap(fd int, name string) *os.File { return os.NewFile(uintptr(fd), name) }
