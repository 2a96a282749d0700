package ctnl

import (
	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/ha/statesync"
)

// tcpLiberal is IP_CT_TCP_FLAG_BE_LIBERAL: the windows of an injected connection are not known.
const tcpLiberal = 1 << 3

// createFlags make a message fail when the entry is there.
const createFlags = unix.NLM_F_CREATE | unix.NLM_F_EXCL

// create appends a message that makes a connection. The kernel wants the reply tuple as it would be without NAT and
// does the translation itself, so that its own tables of translations are right.
func (w *builder) create(seq uint32, f *statesync.Flow) {
	m := w.message(msgNew, createFlags, seq, f.Family)
	reply := f.Orig.Inverse()
	w.tuple(ctaTupleOrig, f.Family, &f.Orig, f, statesync.ZoneOriginal)
	w.tuple(ctaTupleReply, f.Family, &reply, f, statesync.ZoneReply)
	w.nat(f)
	if f.Has&statesync.HasMaster != 0 {
		w.tuple(ctaTupleMaster, f.Family, &f.Master, nil, 0)
	}
	w.state(f, f.Status&^statesync.StatusExpected)
	w.end(m)
}

// update appends a message that changes a connection; it fails when there is none.
func (w *builder) update(seq uint32, f *statesync.Flow) {
	m := w.message(msgNew, 0, seq, f.Family)
	w.tuple(ctaTupleOrig, f.Family, &f.Orig, f, statesync.ZoneOriginal)
	w.state(f, f.Status)
	w.end(m)
}

// remove appends a message that removes the connection that has f's original tuple, or its reply tuple.
func (w *builder) remove(seq uint32, f *statesync.Flow, byReply bool) {
	m := w.message(msgDelete, 0, seq, f.Family)
	if byReply {
		w.tuple(ctaTupleReply, f.Family, &f.Reply, f, statesync.ZoneReply)
	} else {
		w.tuple(ctaTupleOrig, f.Family, &f.Orig, f, statesync.ZoneOriginal)
	}
	if f.Has&statesync.HasZone != 0 && f.ZoneDir == statesync.ZoneBoth {
		w.u16(ctaZone, f.Zone)
	}
	w.end(m)
}

// state appends what both kinds of message have.
func (w *builder) state(f *statesync.Flow, status uint32) {
	w.u32(ctaStatus, status&(statesync.StatusExpected|statesync.StatusSeenReply|statesync.StatusAssured)|statesync.StatusConfirmed)
	if f.Has&statesync.HasTimeout != 0 {
		w.u32(ctaTimeout, f.Timeout)
	}
	if f.Has&statesync.HasZone != 0 && f.ZoneDir == statesync.ZoneBoth {
		w.u16(ctaZone, f.Zone)
	}
	if f.Has&statesync.HasTCP != 0 {
		info, tcp := w.nest(ctaProtoInfo), w.nest(ctaProtoInfoTCP)
		w.u8(ctaTCPState, f.TCP.State)
		w.u8(ctaTCPScaleOrig, f.TCP.Scale[0])
		w.u8(ctaTCPScaleReply, f.TCP.Scale[1])
		for i, flags := range f.TCP.Flags {
			flags |= tcpLiberal
			w.bytes(ctaTCPFlagsOrig+uint16(i), []byte{flags, flags}) // value and mask
		}
		w.close(tcp)
		w.close(info)
	}
	if f.Has&statesync.HasSCTP != 0 {
		info, sctp := w.nest(ctaProtoInfo), w.nest(ctaProtoInfoSCTP)
		w.u8(ctaSCTPState, f.SCTP.State)
		w.u32(ctaSCTPTagOrig, f.SCTP.VTag[0])
		w.u32(ctaSCTPTagReply, f.SCTP.VTag[1])
		w.close(sctp)
		w.close(info)
	}
	if f.Has&statesync.HasHelper != 0 {
		help := w.nest(ctaHelp)
		w.text(ctaHelpName, f.Helper)
		w.close(help)
	}
	if f.Has&statesync.HasSeqAdj != 0 {
		for i, s := range f.SeqAdj {
			adj := w.nest(ctaSeqAdjOrig + uint16(i))
			w.u32(ctaSeqAdjPos, s.Pos)
			w.u32(ctaSeqAdjBefore, s.Before)
			w.u32(ctaSeqAdjAfter, s.After)
			w.close(adj)
		}
	}
	if f.Has&statesync.HasMark != 0 {
		w.u32(ctaMark, f.Mark)
	}
	if f.Has&statesync.HasLabels != 0 {
		w.bytes(ctaLabels, f.Labels[:])
	}
}

// nat appends the translations. A connection that the holder's NAT has seen and left alone is told so: otherwise the
// first packet after a takeover would go through the NAT rules again.
func (w *builder) nat(f *statesync.Flow) {
	src, dst := f.NAT()
	icmp := f.Orig.Proto == statesync.ICMP || f.Orig.Proto == statesync.ICMPv6
	if dst {
		w.manip(ctaNATDst, f.Family, &f.Reply.Src, f.Reply.SrcPort, !icmp && f.Reply.SrcPort != 0)
	}
	switch {
	case src && icmp:
		w.manip(ctaNATSrc, f.Family, &f.Reply.Dst, f.Reply.SrcPort, true)
	case src:
		w.manip(ctaNATSrc, f.Family, &f.Reply.Dst, f.Reply.DstPort, f.Reply.DstPort != 0)
	case !dst && f.Status&statesync.StatusNATDone != 0:
		w.manip(ctaNATDst, f.Family, &f.Orig.Dst, 0, false)
	}
}

// manip appends one translation to exactly one address and port.
func (w *builder) manip(kind uint16, family uint8, to *statesync.Addr, port uint16, withPort bool) {
	at := w.nest(kind)
	if family == statesync.Inet {
		w.bytes(ctaNATv4Min, to[:4])
		w.bytes(ctaNATv4Max, to[:4])
	} else {
		w.bytes(ctaNATv6Min, to[:])
		w.bytes(ctaNATv6Max, to[:])
	}
	if withPort {
		p := w.nest(ctaNATProto)
		w.u16(ctaProtoNATMin, port)
		w.u16(ctaProtoNATMax, port)
		w.close(p)
	}
	w.close(at)
}

// tuple appends a tuple. f, if not nil, may have a zone for that direction only.
func (w *builder) tuple(kind uint16, family uint8, t *statesync.Tuple, f *statesync.Flow, dir statesync.ZoneDirection) {
	at := w.nest(kind)
	ip := w.nest(ctaTupleIP)
	if family == statesync.Inet {
		w.bytes(ctaIPv4Src, t.Src[:4])
		w.bytes(ctaIPv4Dst, t.Dst[:4])
	} else {
		w.bytes(ctaIPv6Src, t.Src[:])
		w.bytes(ctaIPv6Dst, t.Dst[:])
	}
	w.close(ip)
	proto := w.nest(ctaTupleProto)
	w.u8(ctaProtoNum, t.Proto)
	switch t.Proto {
	case statesync.ICMP:
		w.u16(ctaICMPID, t.SrcPort)
		w.u8(ctaICMPType, uint8(t.DstPort>>8))
		w.u8(ctaICMPCode, uint8(t.DstPort))
	case statesync.ICMPv6:
		w.u16(ctaICMPv6ID, t.SrcPort)
		w.u8(ctaICMPv6Type, uint8(t.DstPort>>8))
		w.u8(ctaICMPv6Code, uint8(t.DstPort))
	default:
		w.u16(ctaProtoSrcPort, t.SrcPort)
		w.u16(ctaProtoDstPort, t.DstPort)
	}
	w.close(proto)
	if f != nil && f.Has&statesync.HasZone != 0 && f.ZoneDir == dir {
		w.u16(ctaTupleZone, f.Zone)
	}
	w.close(at)
}

// expect appends a message that makes an expectation or changes its timeout.
func (w *builder) expect(seq uint32, e *statesync.Expect) {
	m := w.message(msgExpNew, unix.NLM_F_CREATE, seq, e.Family)
	w.expectTuples(e)
	w.u32(ctaExpectTimeout, e.Timeout)
	w.u32(ctaExpectFlags, e.Flags)
	w.u32(ctaExpectClass, e.Class)
	if e.Helper != "" {
		w.text(ctaExpectHelper, e.Helper)
	}
	if e.Fn != "" {
		w.text(ctaExpectFn, e.Fn)
	}
	if e.NAT {
		n := w.nest(ctaExpectNAT)
		w.u32(ctaExpectNATDir, e.NATDir)
		w.tuple(ctaExpectNATTup, e.Family, &e.NATTuple, nil, 0)
		w.close(n)
	}
	w.end(m)
}

// removeExpect appends a message that removes an expectation.
func (w *builder) removeExpect(seq uint32, e *statesync.Expect) {
	m := w.message(msgExpDelete, 0, seq, e.Family)
	w.expectTuples(e)
	w.end(m)
}

func (w *builder) expectTuples(e *statesync.Expect) {
	w.tuple(ctaExpectMaster, e.Family, &e.Master, nil, 0)
	w.tuple(ctaExpectTuple, e.Family, &e.Tuple, nil, 0)
	w.tuple(ctaExpectMask, e.Family, &e.Mask, nil, 0)
	if e.Zone != 0 {
		w.u16(ctaExpectZone, e.Zone)
	}
}
