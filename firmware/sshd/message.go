package sshd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// maxMessage bounds a message between keeper and front, in bytes of JSON. It fits the kernel's default socket buffer.
const maxMessage = 64 << 10

// What a message is about. The front's requests have an ID, which the keeper's reply repeats.
const (
	opConnection = "connection" // keeper: a new connection, with its descriptor
	opReply      = "reply"      // keeper: to a request
	opExited     = "exited"     // keeper: the console of a session has ended
	opDrop       = "drop"       // keeper: end a connection
	opSign       = "sign"       // front: Data by the host key
	opPassword   = "password"   // front: may User log in with Password?
	opKey        = "key"        // front: could User log in with Key?
	opLogin      = "login"      // front: User has proved that he has Key
	opOpen       = "open"       // front: a console, please
	opDone       = "done"       // front: nobody looks at a session any more
	opClosed     = "closed"     // front: a connection is gone
)

// message travels between keeper and front, one a packet of a SOCK_SEQPACKET pair, as JSON.
type message struct {
	Op       string `json:"op"`
	ID       uint64 `json:"id,omitempty"`
	Conn     uint64 `json:"conn,omitempty"`
	Session  uint64 `json:"session,omitempty"`
	Source   string `json:"source,omitempty"`
	User     string `json:"user,omitempty"`
	Password []byte `json:"password,omitempty"`
	Key      []byte `json:"key,omitempty"`  // SSH wire format
	Data     []byte `json:"data,omitempty"` // what is to be signed, the signature
	// Terminal is asked for by opOpen; nil means pipes.
	Terminal *terminal `json:"terminal,omitempty"`
	Command  *string   `json:"command,omitempty"` // nil: the interactive console
	Code     int       `json:"code,omitempty"`    // exit code
	Error    string    `json:"error,omitempty"`
}

// terminal is what pty-req says of the client's (RFC 4254, 6.2).
type terminal struct {
	Type string `json:"type,omitempty"` // TERM
	Cols uint16 `json:"cols,omitempty"`
	Rows uint16 `json:"rows,omitempty"`
}

func decode(data []byte) (m message, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return message{}, err
	}
	if m.Op == "" {
		return message{}, errors.New("a message about nothing")
	}
	return m, nil
}

// channel is one end of the pair.
type channel struct{ *net.UnixConn }

// patience is how long the other end may leave a message lying.
const patience = 5 * time.Second

// newChannel takes the descriptor over.
func newChannel(f *os.File) (channel, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return channel{}, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return channel{}, fmt.Errorf("%T is no Unix socket", c)
	}
	return channel{u}, nil
}

// channelPair gives one end, and the other for a child.
func channelPair() (channel, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return channel{}, nil, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "front")
	ours, err := newChannel(os.NewFile(uintptr(fds[0]), "keeper"))
	if err != nil {
		theirs.Close()
		return channel{}, nil, err
	}
	return ours, theirs, nil
}

// send may be called from any goroutine. The descriptors stay the caller's.
func (c channel) send(m message, fds ...int) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(data) > maxMessage {
		return fmt.Errorf("a message of %d bytes", len(data))
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	c.SetWriteDeadline(time.Now().Add(patience))
	_, _, err = c.WriteMsgUnix(data, oob, nil)
	return err
}

// receive waits for the next message. The descriptors that came with it are the caller's.
func (c channel) receive(buf []byte) (m message, fds []int, err error) {
	oob := make([]byte, unix.CmsgSpace(4*8))
	n, nn, flags, _, err := c.ReadMsgUnix(buf, oob)
	if err == nil && n == 0 {
		err = net.ErrClosed
	}
	if err != nil {
		return message{}, nil, err
	}
	if list, err := unix.ParseSocketControlMessage(oob[:nn]); err == nil {
		for _, c := range list {
			got, _ := unix.ParseUnixRights(&c)
			fds = append(fds, got...)
		}
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		err = fmt.Errorf("a message of more than %d bytes", len(buf))
	} else {
		m, err = decode(buf[:n])
	}
	if err != nil {
		closeAll(fds)
		return message{}, nil, err
	}
	return m, fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
