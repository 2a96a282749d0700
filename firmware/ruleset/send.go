package ruleset

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Refusal is the kernel's no to one part of a ruleset.
type Refusal struct {
	Part string // e.g. "rule filter/web (…)"
	Err  syscall.Errno
}

// Error names the part first.
func (r *Refusal) Error() string { return fmt.Sprintf("%s: %s", r.Part, r.Err) }

// Unwrap gives the errno.
func (r *Refusal) Unwrap() error { return r.Err }

// patience is how long the kernel may take for the answer, in seconds. The answer of a transaction comes when it is done.
const patience = 60

// transact sends one batch, which the kernel takes as a whole or not at all, in the network namespace of the calling
// thread. The error joins a Refusal for every part that the kernel refused.
func transact(list []message) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	batch, last := encode(list)
	// The kernel wants the batch in one piece.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 2*len(batch)+1<<16); err != nil {
		return os.NewSyscallError("setsockopt SO_SNDBUFFORCE", err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: patience}); err != nil {
		return os.NewSyscallError("setsockopt SO_RCVTIMEO", err)
	}
	if err := unix.Sendto(fd, batch, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	return answer(fd, list, last)
}

// encode gives the batch and the number of its last message, the only one the kernel has to acknowledge: it tells
// errors unasked, and thousands of acknowledgements would overrun the socket. Message i of list has the number i+1.
func encode(list []message) (batch []byte, last uint32) {
	mark := []byte{unix.AF_UNSPEC, 0, 0, unix.NFNL_SUBSYS_NFTABLES} // struct nfgenmsg, the subsystem in big-endian
	batch = header(nil, unix.NFNL_MSG_BATCH_BEGIN, unix.NLM_F_REQUEST, 0, mark)
	for i, m := range list {
		flags := uint16(m.Header.Flags &^ netlink.Acknowledge)
		if last = uint32(i + 1); i == len(list)-1 {
			flags |= unix.NLM_F_ACK
		}
		batch = header(batch, uint16(m.Header.Type), flags, last, m.Data)
	}
	return header(batch, unix.NFNL_MSG_BATCH_END, unix.NLM_F_REQUEST, last+1, mark), last
}

// header appends a message with its struct nlmsghdr.
func header(b []byte, kind, flags uint16, sequence uint32, data []byte) []byte {
	b = binary.NativeEndian.AppendUint32(b, uint32(unix.SizeofNlMsghdr+len(data)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, flags)
	b = binary.NativeEndian.AppendUint32(b, sequence)
	b = binary.NativeEndian.AppendUint32(b, 0)
	return padded(b, data)
}

// maxRefusals bounds what one error tells.
const maxRefusals = 10

// answer reads what the kernel says of each message, up to the last one.
func answer(fd int, list []message, last uint32) error {
	var errs []error
	buf := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return errors.Join(append(errs, os.NewSyscallError("read the kernel's answer", err))...)
		}
		for b := buf[:n]; len(b) >= unix.SizeofNlMsghdr; {
			size := int(binary.NativeEndian.Uint32(b))
			if size < unix.SizeofNlMsghdr || size > len(b) {
				break
			}
			sequence := binary.NativeEndian.Uint32(b[8:])
			if binary.NativeEndian.Uint16(b[4:]) == unix.NLMSG_ERROR && size >= unix.SizeofNlMsghdr+4 {
				if code := -int32(binary.NativeEndian.Uint32(b[unix.SizeofNlMsghdr:])); code != 0 {
					refusal := &Refusal{Part: "the whole ruleset", Err: syscall.Errno(code)}
					if sequence >= 1 && sequence <= last {
						refusal.Part = list[sequence-1].label
					}
					if len(errs) < maxRefusals {
						errs = append(errs, refusal)
					}
				}
				if sequence == 0 || sequence >= last {
					return errors.Join(errs...)
				}
			}
			b = b[min((size+3)&^3, len(b)):]
		}
	}
}
