package capture

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

// Direction is seen from the switch.
type Direction uint8

// Directions, with the values of the two lowest bits of epb_flags.
const (
	Unknown Direction = 0
	In      Direction = 1 // sent by the station behind the port
	Out     Direction = 2 // handed to the station behind the port
)

func (d Direction) String() string {
	switch d {
	case In:
		return "in"
	case Out:
		return "out"
	}
	return "unknown"
}

// Frame is one frame of a capture.
type Frame struct {
	Time time.Time
	Dir  Direction
	Data []byte
}

// Block types and options, draft-ietf-opsawg-pcapng sections 4.1 to 4.3.
const (
	blockSection   = 0x0a0d0d0a
	blockInterface = 1
	blockPacket    = 6 // enhanced packet block
	byteOrderMagic = 0x1a2b3c4d
	linkEthernet   = 1

	optEnd       = 0
	optName      = 2 // if_name
	optFlags     = 2 // epb_flags
	optResol     = 9 // if_tsresol
	nanoseconds  = 9 // 10^-9 s
	packetFixed  = 28
	packetOption = 12 // epb_flags with its header, end of options
)

// Writer writes one capture. Every frame is one Write of the underlying writer, so that a file is complete to
// the last frame at any moment. Not safe for concurrent use.
type Writer struct{ w io.Writer }

// NewWriter writes the header. port names the interface in the file, e.g. "lan-a".
func NewWriter(w io.Writer, port string) (*Writer, error) {
	le := binary.LittleEndian
	section := le.AppendUint32(nil, byteOrderMagic)
	section = le.AppendUint16(section, 1)              // major version
	section = le.AppendUint16(section, 0)              // minor version
	section = le.AppendUint64(section, math.MaxUint64) // section length: not specified

	iface := le.AppendUint16(nil, linkEthernet)
	iface = le.AppendUint16(iface, 0)
	iface = le.AppendUint32(iface, 0) // snapshot length: none
	iface = appendOption(iface, optName, []byte(port))
	iface = appendOption(iface, optResol, []byte{nanoseconds})
	iface = appendOption(iface, optEnd, nil)

	b := appendBlock(nil, blockSection, section)
	b = appendBlock(b, blockInterface, iface)
	if _, err := w.Write(b); err != nil {
		return nil, fmt.Errorf("write capture header: %w", err)
	}
	return &Writer{w: w}, nil
}

// Write appends one frame.
func (w *Writer) Write(f Frame) error {
	le := binary.LittleEndian
	ts := uint64(f.Time.UnixNano())
	b := make([]byte, 0, packetFixed+len(f.Data)+packetOption+8)
	b = le.AppendUint32(b, 0) // interface
	b = le.AppendUint32(b, uint32(ts>>32))
	b = le.AppendUint32(b, uint32(ts))
	b = le.AppendUint32(b, uint32(len(f.Data))) // captured
	b = le.AppendUint32(b, uint32(len(f.Data))) // on the wire
	b = append(b, f.Data...)
	b = pad4(b)
	b = appendOption(b, optFlags, le.AppendUint32(nil, uint32(f.Dir)))
	b = appendOption(b, optEnd, nil)
	if _, err := w.w.Write(appendBlock(nil, blockPacket, b)); err != nil {
		return fmt.Errorf("write captured frame: %w", err)
	}
	return nil
}

func appendBlock(b []byte, typ uint32, body []byte) []byte {
	le := binary.LittleEndian
	n := uint32(12 + len(body))
	b = le.AppendUint32(b, typ)
	b = le.AppendUint32(b, n)
	b = append(b, body...)
	return le.AppendUint32(b, n)
}

func appendOption(b []byte, code uint16, value []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, code)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
	return pad4(append(b, value...))
}

func pad4(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// maxBlock bounds one block of a file that is read: a frame of 64 KiB with options.
const maxBlock = 1 << 17

// ErrFormat is returned for a file that Writer did not write.
var ErrFormat = errors.New("not a capture of the lab")

// Read reads a whole capture. It reads what Writer writes (one little-endian section, one Ethernet interface,
// nanoseconds) and skips other blocks. A file that ends inside a block gives the frames before it: the lab may
// have been killed while it wrote.
func Read(r io.Reader) ([]Frame, error) {
	br := bufio.NewReader(r)
	var frames []Frame
	for n := 0; ; n++ {
		typ, body, err := readBlock(br)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			if n == 0 {
				return nil, fmt.Errorf("%w: no section header", ErrFormat)
			}
			return frames, nil
		}
		if err != nil {
			return nil, fmt.Errorf("block %d: %w", n, err)
		}
		if n == 0 && (typ != blockSection || len(body) < 4 || binary.LittleEndian.Uint32(body) != byteOrderMagic) {
			return nil, fmt.Errorf("%w: no little-endian section header", ErrFormat)
		}
		if typ != blockPacket {
			continue
		}
		f, err := parsePacket(body)
		if err != nil {
			return nil, fmt.Errorf("block %d: %w", n, err)
		}
		frames = append(frames, f)
	}
}

func readBlock(r io.Reader) (typ uint32, body []byte, err error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	typ = binary.LittleEndian.Uint32(head[:])
	n := binary.LittleEndian.Uint32(head[4:])
	if n < 12 || n%4 != 0 || n > maxBlock {
		return 0, nil, fmt.Errorf("%w: block length %d", ErrFormat, n)
	}
	body = make([]byte, n-8)
	if _, err := io.ReadFull(r, body); err != nil {
		return 0, nil, err
	}
	if binary.LittleEndian.Uint32(body[n-12:]) != n {
		return 0, nil, fmt.Errorf("%w: the two lengths of a block differ", ErrFormat)
	}
	return typ, body[:n-12], nil
}

func parsePacket(b []byte) (Frame, error) {
	le := binary.LittleEndian
	if len(b) < packetFixed-8 {
		return Frame{}, fmt.Errorf("%w: short packet block", ErrFormat)
	}
	ts := uint64(le.Uint32(b[4:]))<<32 | uint64(le.Uint32(b[8:]))
	n := uint64(le.Uint32(b[12:]))
	rest := b[20:]
	if padded := (n + 3) &^ 3; padded > uint64(len(rest)) {
		return Frame{}, fmt.Errorf("%w: frame of %d bytes in a block of %d", ErrFormat, n, len(rest))
	}
	f := Frame{Time: time.Unix(0, int64(ts)), Data: rest[:n]}
	for opts := rest[(n+3)&^3:]; len(opts) >= 4; {
		code, size := le.Uint16(opts), int(le.Uint16(opts[2:]))
		end := 4 + (size+3)&^3
		if code == optEnd || end > len(opts) {
			break
		}
		if code == optFlags && size == 4 {
			f.Dir = Direction(le.Uint32(opts[4:]) & 3)
		}
		opts = opts[end:]
	}
	return f, nil
}
