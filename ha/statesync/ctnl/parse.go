package ctnl

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/ha/statesync"
)

var errMessage = errors.New("the kernel sent a netlink message that makes no sense")

// message is one netlink message of a buffer.
type message struct {
	kind, flags uint16
	seq, port   uint32
	body        []byte // behind the netlink header
}

// nextMessage takes the first message off a buffer.
func nextMessage(b []byte) (m message, rest []byte, err error) {
	if len(b) < headerLen {
		return m, nil, errMessage
	}
	n := int(binary.NativeEndian.Uint32(b))
	if n < headerLen || n > len(b) {
		return m, nil, errMessage
	}
	m = message{
		kind: binary.NativeEndian.Uint16(b[4:]), flags: binary.NativeEndian.Uint16(b[6:]),
		seq: binary.NativeEndian.Uint32(b[8:]), port: binary.NativeEndian.Uint32(b[12:]), body: b[headerLen:n],
	}
	return m, b[min((n+3)&^3, len(b)):], nil
}

// parseEvent turns a message into an event. ok is false for what is not carried.
func parseEvent(m *message, e *statesync.Event) (ok bool, err error) {
	if len(m.body) < genLen {
		return false, errMessage
	}
	family, a := m.body[0], attrs{b: m.body[genLen:]}
	switch m.kind {
	case msgNew:
		e.Kind = statesync.EventUpdate
		if m.flags&(unix.NLM_F_CREATE|unix.NLM_F_EXCL) != 0 {
			e.Kind = statesync.EventNew
		}
		return parseFlow(family, a, &e.Flow)
	case msgDelete:
		e.Kind = statesync.EventDestroy
		return parseFlow(family, a, &e.Flow)
	case msgExpNew, msgExpDelete:
		e.Kind = statesync.EventExpect
		if m.kind == msgExpDelete {
			e.Kind = statesync.EventExpectDestroy
		}
		e.Expect = new(statesync.Expect)
		return parseExpect(family, a, e.Expect)
	}
	return false, nil
}

// parseFlow reads a connection.
func parseFlow(family uint8, a attrs, f *statesync.Flow) (bool, error) {
	*f = statesync.Flow{Family: family}
	if family != statesync.Inet && family != statesync.Inet6 {
		return false, nil
	}
	for a.next() {
		switch a.kind {
		case ctaTupleOrig:
			parseTuple(&a, &f.Orig, f, statesync.ZoneOriginal)
		case ctaTupleReply:
			parseTuple(&a, &f.Reply, f, statesync.ZoneReply)
		case ctaStatus:
			f.Status = a.u32()
		case ctaTimeout:
			f.Timeout, f.Has = a.u32(), f.Has|statesync.HasTimeout
		case ctaMark:
			if f.Mark = a.u32(); f.Mark != 0 {
				f.Has |= statesync.HasMark
			}
		case ctaZone:
			f.Zone, f.ZoneDir, f.Has = a.u16(), statesync.ZoneBoth, f.Has|statesync.HasZone
		case ctaLabels:
			f.Labels = [16]byte{}
			copy(f.Labels[:], a.data)
			f.Has |= statesync.HasLabels
		case ctaProtoInfo:
			parseProtoInfo(&a, f)
		case ctaHelp:
			for h := (attrs{b: a.data}); h.next(); {
				if h.kind == ctaHelpName {
					if f.Helper = h.text(); f.Helper != "" {
						f.Has |= statesync.HasHelper
					}
				}
			}
		case ctaSeqAdjOrig, ctaSeqAdjReply:
			parseSeqAdj(&a, &f.SeqAdj[a.kind-ctaSeqAdjOrig])
			f.Has |= statesync.HasSeqAdj
		case ctaTupleMaster:
			parseTuple(&a, &f.Master, nil, 0)
			f.Has |= statesync.HasMaster
		}
	}
	if a.bad || f.Orig.Proto == 0 || f.Reply.Proto == 0 {
		return false, fmt.Errorf("%w: a connection", errMessage)
	}
	return true, nil
}

// parseTuple reads a tuple. f, if not nil, gets the zone of one direction.
func parseTuple(a *attrs, t *statesync.Tuple, f *statesync.Flow, dir statesync.ZoneDirection) {
	in := attrs{b: a.data}
	for in.next() {
		switch in.kind {
		case ctaTupleIP:
			for ip := (attrs{b: in.data}); ip.next(); {
				switch ip.kind {
				case ctaIPv4Src, ctaIPv6Src:
					copy(t.Src[:], ip.data)
				case ctaIPv4Dst, ctaIPv6Dst:
					copy(t.Dst[:], ip.data)
				}
			}
		case ctaTupleProto:
			parseProto(&in, t)
		case ctaTupleZone:
			if f != nil {
				f.Zone, f.ZoneDir, f.Has = in.u16(), dir, f.Has|statesync.HasZone
			}
		}
	}
	a.bad = a.bad || in.bad
}

func parseProto(a *attrs, t *statesync.Tuple) {
	in := attrs{b: a.data}
	for in.next() {
		switch in.kind {
		case ctaProtoNum:
			t.Proto = in.u8()
		case ctaProtoSrcPort, ctaICMPID, ctaICMPv6ID:
			t.SrcPort = in.u16()
		case ctaProtoDstPort:
			t.DstPort = in.u16()
		case ctaICMPType, ctaICMPv6Type:
			t.DstPort = t.DstPort&0xff | uint16(in.u8())<<8
		case ctaICMPCode, ctaICMPv6Code:
			t.DstPort = t.DstPort&0xff00 | uint16(in.u8())
		}
	}
	a.bad = a.bad || in.bad
}

func parseProtoInfo(a *attrs, f *statesync.Flow) {
	for kind := (attrs{b: a.data}); kind.next(); {
		in := attrs{b: kind.data}
		switch kind.kind {
		case ctaProtoInfoTCP:
			f.Has |= statesync.HasTCP
			for in.next() {
				switch in.kind {
				case ctaTCPState:
					f.TCP.State = in.u8()
				case ctaTCPScaleOrig:
					f.TCP.Scale[0] = in.u8()
				case ctaTCPScaleReply:
					f.TCP.Scale[1] = in.u8()
				case ctaTCPFlagsOrig:
					f.TCP.Flags[0] = in.u8()
				case ctaTCPFlagsReply:
					f.TCP.Flags[1] = in.u8()
				}
			}
		case ctaProtoInfoSCTP:
			f.Has |= statesync.HasSCTP
			for in.next() {
				switch in.kind {
				case ctaSCTPState:
					f.SCTP.State = in.u8()
				case ctaSCTPTagOrig:
					f.SCTP.VTag[0] = in.u32()
				case ctaSCTPTagReply:
					f.SCTP.VTag[1] = in.u32()
				}
			}
		}
		a.bad = a.bad || in.bad
	}
}

func parseSeqAdj(a *attrs, s *statesync.SeqAdj) {
	in := attrs{b: a.data}
	for in.next() {
		switch in.kind {
		case ctaSeqAdjPos:
			s.Pos = in.u32()
		case ctaSeqAdjBefore:
			s.Before = in.u32()
		case ctaSeqAdjAfter:
			s.After = in.u32()
		}
	}
	a.bad = a.bad || in.bad
}

// parseExpect reads an expectation.
func parseExpect(family uint8, a attrs, e *statesync.Expect) (bool, error) {
	e.Family = family
	if family != statesync.Inet && family != statesync.Inet6 {
		return false, nil
	}
	for a.next() {
		switch a.kind {
		case ctaExpectMaster:
			parseTuple(&a, &e.Master, nil, 0)
		case ctaExpectTuple:
			parseTuple(&a, &e.Tuple, nil, 0)
		case ctaExpectMask:
			parseTuple(&a, &e.Mask, nil, 0)
		case ctaExpectTimeout:
			e.Timeout = a.u32()
		case ctaExpectHelper:
			e.Helper = a.text()
		case ctaExpectZone:
			e.Zone = a.u16()
		case ctaExpectFlags:
			e.Flags = a.u32()
		case ctaExpectClass:
			e.Class = a.u32()
		case ctaExpectFn:
			e.Fn = a.text()
		case ctaExpectNAT:
			e.NAT = true
			for in := (attrs{b: a.data}); in.next(); {
				switch in.kind {
				case ctaExpectNATDir:
					e.NATDir = in.u32()
				case ctaExpectNATTup:
					parseTuple(&in, &e.NATTuple, nil, 0)
				}
			}
		}
	}
	if a.bad || e.Tuple.Proto == 0 || e.Master.Proto == 0 {
		return false, fmt.Errorf("%w: an expectation", errMessage)
	}
	return true, nil
}

// intern gives the names that are carried without allocating; others as they are.
func intern(b []byte) string {
	for _, list := range [][]string{statesync.Helpers, statesync.Functions} {
		for _, s := range list {
			if string(b) == s {
				return s
			}
		}
	}
	return string(b)
}

// parseCounters reads how much has passed in either direction.
func parseCounters(b []byte, out *[2]Counters) {
	*out = [2]Counters{}
	for a := (attrs{b: b}); a.next(); {
		if a.kind != ctaCountOrig && a.kind != ctaCountReply {
			continue
		}
		c := &out[a.kind-ctaCountOrig]
		for in := (attrs{b: a.data}); in.next(); {
			switch in.kind {
			case ctaCountPackets:
				c.Packets = in.u64()
			case ctaCountBytes:
				c.Bytes = in.u64()
			}
		}
	}
}
