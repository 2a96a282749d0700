package dissect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/twinkeep/twinkeep/ha/ccp"
	"github.com/twinkeep/twinkeep/ha/wire"
)

// cluster describes what members say to each other, and reports whether the frame is that. Heartbeats and CCP are never tagged.
func cluster(frame []byte) (string, bool) {
	if e, payload, err := wire.ParseFrame(frame); !errors.Is(err, wire.NotHeartbeat) {
		if text, is := heartbeat(frame, payload, err); is {
			return fmt.Sprintf("IP %s > %s: heartbeat %s", e.SrcIP, e.DstIP, text), true
		}
	}
	if e, payload, err := ccp.ParseFrame(frame); !errors.Is(err, ccp.NotCCP) {
		if text, is := control(frame, payload, err); is {
			return fmt.Sprintf("IP %s > %s: CCP %s", e.SrcIP, e.DstIP, text), true
		}
	}
	return "", false
}

// begins reports whether the payload of a UDP frame begins with a magic.
func begins(frame []byte, magic uint16) bool {
	return len(frame) >= wire.OffsetPayload+2 && binary.BigEndian.Uint16(frame[wire.OffsetPayload:]) == magic
}

var flagNames = []struct {
	flag wire.Flags
	name string
}{
	{wire.Holder, "holder"}, {wire.InSync, "in sync"}, {wire.SyncIf, "sync interface"}, {wire.Farewell, "FAREWELL"}, {wire.Yielding, "yielding"}, {wire.Claiming, "claiming"}, {wire.Bidding, "bidding"}, {wire.Ceded, "ceded"},
}

var orderNames = map[wire.Order]string{wire.Keep: "keep", wire.Open: "open", wire.Shut: "shut", wire.Drain: "drain"}

// heartbeat describes a heartbeat. err is what its frame was refused for.
func heartbeat(frame, payload []byte, err error) (string, bool) {
	if !begins(frame, wire.Magic) {
		return "", false
	}
	var h wire.Beat
	if err == nil {
		err = h.Parse(payload[:len(payload)-wire.TagLen])
	}
	if err != nil {
		return fmt.Sprintf("that is refused: %v", err), true
	}
	var b strings.Builder
	fmt.Fprintf(&b, "cluster %d member %d %s", h.Cluster, h.Member, h.State)
	for _, f := range flagNames {
		if h.Has(f.flag) {
			b.WriteString(", " + f.name)
		}
	}
	if order := orderNames[h.Order]; order != "" {
		b.WriteString(", gate " + order)
	}
	fmt.Fprintf(&b, ", term %d, seq %d, boot %x, if %d", h.Term, h.Seq, h.Nonce>>48, h.Interface)
	if h.Demotion > 0 {
		fmt.Fprintf(&b, ", demotion %d", h.Demotion)
	}
	fmt.Fprintf(&b, ", prio %d, conns %d, policy %d", h.Priority, h.Connections, h.PolicyRevision)
	if h.Successor > 0 {
		fmt.Fprintf(&b, ", successor %d", h.Successor)
	}
	if h.Vote > 0 {
		fmt.Fprintf(&b, ", vote %d", h.Vote)
	}
	for i, p := range h.Heard {
		word := ","
		if i == 0 {
			word = ", heard"
		}
		fmt.Fprintf(&b, "%s %d@%d", word, p.Member, p.Seq)
	}
	fmt.Fprintf(&b, ", length %d", len(payload))
	return b.String(), true
}

// control describes a packet of the Cluster Control Protocol. err is what its frame was refused for.
func control(frame, payload []byte, err error) (string, bool) {
	if !begins(frame, ccp.Magic) {
		return "", false
	}
	var p ccp.Packet
	if err == nil {
		p, err = ccp.Parse(payload[:max(len(payload)-ccp.TagLen, 0)])
	}
	switch {
	case errors.Is(err, ccp.ForeignCCP):
		return fmt.Sprintf("of another product, length %d", len(payload)), true
	case err != nil:
		return fmt.Sprintf("that is refused: %v", err), true
	}
	to := "all"
	if p.Destination != ccp.Everyone {
		to = fmt.Sprint(p.Destination)
	}
	return fmt.Sprintf("%s cluster %d member %d > %s, if %d%s, policy %d, length %d", p.Message.Opcode(), p.Cluster, p.Source, to, p.Interface, said(p.Message), p.PolicyID, len(payload)), true
}

// said is what a message says beyond its opcode.
func said(m ccp.Message) string {
	switch m := m.(type) {
	case ccp.MyState:
		text := fmt.Sprintf(", mode %s", m.Mode)
		for i, s := range m.States {
			text += fmt.Sprintf(", %d %s", i+1, s)
		}
		if r := m.Interfaces; r != nil {
			text += fmt.Sprintf(", up in %d out %d", r.InUp, r.OutUp)
		}
		return text
	case ccp.IfProbeReq:
		return fmt.Sprintf(", probes if %d", m.Interface)
	case ccp.IfProbeReply:
		return fmt.Sprintf(", answers for if %d", m.Interface)
	case ccp.IfConfReply:
		return fmt.Sprintf(", %s", m.Addr)
	case ccp.PolicyChange:
		return fmt.Sprintf(", %s", m.Status)
	}
	return ""
}
