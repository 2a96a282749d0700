// Package pcapng writes captures of one Ethernet interface in the format pcapng (draft-ietf-opsawg-pcapng), which Wireshark, tshark and
// tcpdump read, and reads what it has written. It is pure.
//
// A stream is a section header, an interface description, and then enhanced packets and interface statistics in any number: statistics can stand
// between packets, so that losses are known while a capture goes on. Everything is little-endian, times are in nanoseconds.
package pcapng

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// Types of blocks.
const (
	blockSection    = 0x0a0d0d0a
	blockInterface  = 1
	blockStatistics = 5
	blockPacket     = 6
)

const (
	byteOrder      = 0x1a2b3c4d
	linkEthernet   = 1
	optEnd         = 0
	optComment     = 1
	optHardware    = 2 // of a section
	optApplication = 4
	optName        = 2 // of an interface
	optResolution  = 9
	optFilter      = 11
	optFlags       = 2 // of a packet
	optReceived    = 4 // of statistics
	optDropped     = 5
	nanoseconds    = 9 // 10^-9 s
)

const (
	// MaxPacket is the longest packet, in bytes: what tcpdump keeps at most, and a VLAN tag.
	MaxPacket = 262144 + 4
	// maxBlock is the longest block that is read.
	maxBlock = MaxPacket + 1024
	maxText  = 8192
)

// Direction of a packet.
type Direction uint8

const (
	Unknown Direction = iota
	Inbound
	Outbound
)

// Description is what a capture is of.
type Description struct {
	Host        string // name of the machine
	Application string // name and version of what wrote it
	Interface   string
	Filter      string // in tcpdump's syntax
	Snaplen     uint32 // bytes that are kept of a packet; 0: all
}

// Packet is one frame.
type Packet struct {
	Time      time.Time
	Direction Direction
	Length    int    // as it was on the wire, in bytes
	Data      []byte // what was kept of it
}

// Statistics of a capture since it began.
type Statistics struct {
	Time              time.Time
	Received, Dropped uint64 // Received counts those that were dropped, too
	// Comment says why the capture has ended, if there is something to say.
	Comment string
}

// Writer writes one capture.
type Writer struct {
	w   io.Writer
	buf []byte
}

// NewWriter begins a capture.
func NewWriter(w io.Writer, d Description) (*Writer, error) {
	p := &Writer{w: w}
	p.begin(blockSection)
	p.u32(byteOrder)
	p.u16(1) // version 1.0
	p.u16(0)
	p.u64(1<<64 - 1) // length of the section: not known
	p.text(optHardware, d.Host)
	p.text(optApplication, d.Application)
	p.option(optEnd, nil)
	if err := p.end(); err != nil {
		return nil, err
	}
	p.begin(blockInterface)
	p.u16(linkEthernet)
	p.u16(0)
	p.u32(d.Snaplen)
	p.text(optName, d.Interface)
	p.option(optResolution, []byte{nanoseconds})
	if d.Filter != "" {
		p.option(optFilter, append([]byte{0}, cut(d.Filter)...)) // 0: as libpcap's
	}
	p.option(optEnd, nil)
	return p, p.end()
}

// Packet writes one packet.
func (p *Writer) Packet(k Packet) error {
	if len(k.Data) > MaxPacket {
		return fmt.Errorf("pcapng: a packet of %d bytes, %d are the most", len(k.Data), MaxPacket)
	}
	p.begin(blockPacket)
	p.u32(0) // the interface
	p.time(k.Time)
	p.u32(uint32(len(k.Data)))
	p.u32(uint32(k.Length))
	p.buf = append(p.buf, k.Data...)
	p.pad()
	if k.Direction != Unknown {
		p.option(optFlags, binary.LittleEndian.AppendUint32(nil, uint32(k.Direction)))
		p.option(optEnd, nil)
	}
	return p.end()
}

// Statistics writes how many packets there were so far.
func (p *Writer) Statistics(s Statistics) error {
	p.begin(blockStatistics)
	p.u32(0)
	p.time(s.Time)
	p.text(optComment, s.Comment)
	p.option(optReceived, binary.LittleEndian.AppendUint64(nil, s.Received))
	p.option(optDropped, binary.LittleEndian.AppendUint64(nil, s.Dropped))
	p.option(optEnd, nil)
	return p.end()
}

func (p *Writer) u16(v uint16) { p.buf = binary.LittleEndian.AppendUint16(p.buf, v) }
func (p *Writer) u32(v uint32) { p.buf = binary.LittleEndian.AppendUint32(p.buf, v) }
func (p *Writer) u64(v uint64) { p.buf = binary.LittleEndian.AppendUint64(p.buf, v) }

func (p *Writer) time(t time.Time) {
	ns := uint64(t.UnixNano())
	p.u32(uint32(ns >> 32))
	p.u32(uint32(ns))
}

func (p *Writer) pad() {
	for len(p.buf)%4 != 0 {
		p.buf = append(p.buf, 0)
	}
}

func (p *Writer) option(code uint16, value []byte) {
	p.u16(code)
	p.u16(uint16(len(value)))
	p.buf = append(p.buf, value...)
	p.pad()
}

func (p *Writer) text(code uint16, text string) {
	if text != "" {
		p.option(code, []byte(cut(text)))
	}
}

func cut(text string) string { return text[:min(len(text), maxText)] }

func (p *Writer) begin(kind uint32) {
	p.buf = p.buf[:0]
	p.u32(kind)
	p.u32(0) // length, filled in at the end
}

// end writes the block at once: a reader never sees half of one because of us.
func (p *Writer) end() error {
	n := uint32(len(p.buf) + 4)
	binary.LittleEndian.PutUint32(p.buf[4:], n)
	p.u32(n)
	_, err := p.w.Write(p.buf)
	return err
}

// Reader reads one capture.
type Reader struct {
	r      io.Reader
	buf    []byte
	began  bool
	offset int64
}

// Offset is where the last whole block ended, in bytes from the beginning.
func (p *Reader) Offset() int64 { return p.offset }

// NewReader reads from r, which should be buffered.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

var errFormat = errors.New("pcapng: this is not a capture as this firmware writes them")

// Next gives the next packet, or statistics; one of the two is nil. The packet's data is good until the next call. The error is io.EOF
// behind the last block, and io.ErrUnexpectedEOF in the middle of one.
func (p *Reader) Next() (*Packet, *Statistics, error) {
	for {
		kind, body, err := p.block()
		if err != nil {
			return nil, nil, err
		}
		if p.began != (kind != blockSection) {
			return nil, nil, errFormat // a section at the beginning, and only there
		}
		switch kind {
		case blockSection:
			if len(body) < 16 || binary.LittleEndian.Uint32(body) != byteOrder {
				return nil, nil, errFormat
			}
			p.began = true
		case blockPacket:
			k, err := parsePacket(body)
			return k, nil, err
		case blockStatistics:
			s, err := parseStatistics(body)
			return nil, s, err
		}
	}
}

// block gives the type and the body of the next block.
func (p *Reader) block() (uint32, []byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(p.r, head[:]); err != nil {
		return 0, nil, err
	}
	kind, length := binary.LittleEndian.Uint32(head[:]), binary.LittleEndian.Uint32(head[4:])
	if length < 12 || length%4 != 0 || length > maxBlock {
		return 0, nil, errFormat
	}
	n := int(length) - 8
	if cap(p.buf) < n {
		p.buf = make([]byte, n)
	}
	p.buf = p.buf[:n]
	if _, err := io.ReadFull(p.r, p.buf); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	if binary.LittleEndian.Uint32(p.buf[n-4:]) != length {
		return 0, nil, errFormat
	}
	p.offset += int64(length)
	return kind, p.buf[:n-4], nil
}

func parsePacket(b []byte) (*Packet, error) {
	if len(b) < 20 {
		return nil, errFormat
	}
	le := binary.LittleEndian
	kept := int(le.Uint32(b[12:]))
	padded := (kept + 3) &^ 3
	if kept > MaxPacket || padded > len(b)-20 {
		return nil, errFormat
	}
	k := &Packet{Time: parseTime(b[4:]), Length: int(le.Uint32(b[16:])), Data: b[20 : 20+kept]}
	err := eachOption(b[20+padded:], func(code uint16, value []byte) {
		if code == optFlags && len(value) == 4 {
			k.Direction = Direction(le.Uint32(value) & 3)
		}
	})
	return k, err
}

func parseStatistics(b []byte) (*Statistics, error) {
	if len(b) < 12 {
		return nil, errFormat
	}
	s := &Statistics{Time: parseTime(b[4:])}
	err := eachOption(b[12:], func(code uint16, value []byte) {
		switch {
		case code == optComment && len(value) <= maxText:
			s.Comment = string(value)
		case code == optReceived && len(value) == 8:
			s.Received = binary.LittleEndian.Uint64(value)
		case code == optDropped && len(value) == 8:
			s.Dropped = binary.LittleEndian.Uint64(value)
		}
	})
	return s, err
}

func parseTime(b []byte) time.Time {
	le := binary.LittleEndian
	return time.Unix(0, int64(uint64(le.Uint32(b))<<32|uint64(le.Uint32(b[4:]))))
}

func eachOption(b []byte, each func(code uint16, value []byte)) error {
	for len(b) >= 4 {
		code, n := binary.LittleEndian.Uint16(b), int(binary.LittleEndian.Uint16(b[2:]))
		if code == optEnd {
			return nil
		}
		padded := (n + 3) &^ 3
		if padded > len(b)-4 {
			return errFormat
		}
		each(code, b[4:4+n])
		b = b[4+padded:]
	}
	if len(b) > 0 {
		return errFormat
	}
	return nil
}
