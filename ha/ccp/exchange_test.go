package ccp

import (
	"encoding/binary"
	"fmt"
	"os"
	"testing"
)

// TestExchange decodes what two members of version 1 said to each other, captured from real processes
// (firmware/twinkeep, TestTsharkReadsTheWire): what is on the wire today later versions must still read.
func TestExchange(t *testing.T) {
	file, err := os.ReadFile("testdata/exchange.pcap")
	if err != nil {
		t.Fatal(err)
	}
	k, err := NewKey([]byte("test key of the namespace lab 12"))
	if err != nil {
		t.Fatal(err)
	}
	count, windows := map[string]int{}, map[uint8]*Window{1: {}, 2: {}}
	for rest := file[24:]; len(rest) > 0; {
		n := binary.BigEndian.Uint32(rest[8:])
		frame := rest[16 : 16+n]
		rest = rest[16+n:]
		p, err := decode(k, frame)
		if err != nil {
			t.Fatalf("%v in\n%x", err, frame)
		}
		if w := windows[p.Source]; w == nil || !w.Accept(p.Nonce, p.Seq) || p.Cluster != 7 || p.Interface < 1 || p.Interface > 3 {
			t.Errorf("packet %+v", p)
		}
		if w := windows[p.Source]; w.Accept(p.Nonce, p.Seq) {
			t.Error("accepted twice")
		}
		count[fmt.Sprint(p.Source, " ", p.Message.Opcode())]++
		switch m := p.Message.(type) {
		case MyState:
			if m.Mode != ActiveUp || len(m.States) != 2 || m.Interfaces == nil || len(m.Interfaces.LastSeen) != 2 {
				t.Errorf("%+v", m)
			}
			count["state "+m.States[0].String()+" "+m.States[1].String()]++
		case IfProbeReq, IfProbeReply:
			r, ok := ParseReport(p.Extension)
			if !ok || r.Interface != 2 || !r.Beats || r.Carrier != (p.Source == 1) || r.HeardFrom(3-p.Source) < 0 {
				t.Errorf("report %v %+v of member %d", ok, r, p.Source)
			}
		}
	}
	for _, want := range []string{"1 MY_STATE", "2 MY_STATE", "1 QUERY_STATE", "1 IF_PROBE_REQ", "2 IF_PROBE_REPLY", "1 IFCONF_REQ", "2 IFCONF_REPLY", "state ACTIVE STANDBY", "state ACTIVE DOWN"} {
		if count[want] == 0 {
			t.Errorf("no %s among %v", want, count)
		}
	}
}
