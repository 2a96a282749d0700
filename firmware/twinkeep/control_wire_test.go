package main

import (
	bin "encoding/binary"
	"flag"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/packet"

	"github.com/twinkeep/twinkeep/ha/ccp"
	"github.com/twinkeep/twinkeep/ha/ccp/speaker"
	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/ha/wire"
	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

var keepCapture = flag.String("keep-capture", "", "write the captured CCP exchange to this file (ha/ccp/testdata/exchange.pcap is one)")

// captureCCP records the CCP packets that the members send on all networks, as they come out of the switch, until stop. The
// result is a capture file in the classic format.
func captureCCP(t *testing.T, p *pair.Pair) (stop func() []byte) {
	all := p.Switch.RawAll()
	var ports []int
	for _, name := range []string{"a-lan", "b-lan", "a-wan", "b-wan", "a-sync", "b-sync"} {
		ports = append(ports, p.Switch.Index(name))
	}
	be := bin.BigEndian
	file := be.AppendUint32(nil, 0xA1B2C3D4)
	file = append(file, 0, 2, 0, 4)
	for _, v := range []uint32{0, 0, 65535, 1} {
		file = be.AppendUint32(file, v)
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		defer all.Close()
		start := time.Now()
		buf := make([]byte, 2048)
		for {
			n, index, err := all.Receive(buf)
			select {
			case <-done:
				return
			default:
			}
			if err != nil || !slices.Contains(ports, index) || n < 42 || be.Uint16(buf[36:]) != ccp.Port || buf[23] != 17 {
				continue
			}
			at := time.Since(start)
			for _, v := range []uint32{uint32(at / time.Second), uint32(at % time.Second / time.Microsecond), uint32(n), uint32(n)} {
				file = be.AppendUint32(file, v)
			}
			file = append(file, buf[:n]...)
		}
	}()
	return func() []byte {
		close(done)
		<-ended
		return file
	}
}

// TestTsharkReadsTheWire: Wireshark's dissector, which is not ours, reads what real members say to each other while the
// carrier of one is pulled.
func TestTsharkReadsTheWire(t *testing.T) {
	if _, err := exec.LookPath("tshark"); err != nil {
		t.Skip("no tshark on this machine; to prove the format: apt-get install --no-install-recommends tshark")
	}
	p := pair.NewPair(t, binary)
	stop := captureCCP(t, p)
	p.StartBoth()
	time.Sleep(1200 * time.Millisecond) // a round of MY_STATE
	p.Switch.Run("ip", "link", "set", "b-wan", "down")
	p.Wait("the verdict on b's wan", func() bool {
		s := p.A.Status()
		return len(s.Interfaces) == 3 && s.Interfaces[1].Verdict != nil && s.Interfaces[1].Verdict.Kind == "theirs"
	})
	time.Sleep(1200 * time.Millisecond) // and another
	file := filepath.Join(t.TempDir(), "ccp.pcap")
	if *keepCapture != "" {
		file = *keepCapture
	}
	if err := os.WriteFile(file, stop(), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("tshark", "-n", "-r", file, "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-T", "fields", "-E", "separator=|",
		"-e", "_ws.col.Protocol", "-e", "ip.checksum.status", "-e", "udp.checksum.status", "-e", "ip.ttl", "-e", "eth.dst", "-e", "ip.dst", "-e", "_ws.malformed",
		"-e", "cpha.cluster_number", "-e", "cpha.src_if", "-e", "cpha.dst_id",
		"-e", "cpha.src_id", "-e", "cpha.opcode", "-e", "cpha.ha_mode", "-e", "cpha.ha_time_unit", "-e", "cpha.state_node", "-e", "cpha.in_up", "-e", "cpha.cluster_last_packet",
		"-e", "cpha.ifn", "-e", "cpha.ip")
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "WIRESHARK_CONFIG_DIR="+t.TempDir(), "LC_ALL=C")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	t.Logf("%d packets", len(lines))
	// What the last columns must have been at least once: sender, opcode, its fields.
	wanted := map[string]bool{
		"1|1|4|100|4,2|3|0,0||": false, // a: active-up, a is active and b on standby, three interfaces up, both heard just now
		"1|1|4|100|4,0|2|0,0||": false, // b is down without its wan, which a does not hear it on
		"2|1|4|100|4,0|2|0,0||": false,
		"1|2|||||||":            false, // QUERY_STATE
		"1|3||||||2|":           false, // a asks about interface 2
		"2|4||||||2|":           false, // b answers
		"1|5|||||||":            false, // IFCONF_REQ
		"1|6|||||||10.1.0.2":    false,
		"2|6|||||||10.1.0.3":    false,
	}
	const below = "CPHA|1|1|255|01:00:5e:7f:00:07|239.255.0.7||7|"
	for i, line := range lines {
		rest, ok := strings.CutPrefix(line, below)
		if !ok {
			t.Errorf("packet %d: %s\nwant %s…", i+1, line, below)
			continue
		}
		_, said, _ := strings.Cut(rest, "|") // by which interface
		_, said, _ = strings.Cut(said, "|")  // and to whom
		if _, known := wanted[said]; known {
			wanted[said] = true
		}
	}
	for said, seen := range wanted {
		if !seen {
			t.Errorf("not on the wire: %s", said)
		}
	}
	if t.Failed() {
		t.Logf("\n%s", out)
	}
}

// strangerCCP sends CCP packets into the members' LAN ports, as if they came from elsewhere on the LAN.
type strangerCCP struct {
	conn []*packet.Conn
	key  *ccp.Key
	env  ccp.Envelope
}

func stranger(t *testing.T, p *pair.Pair) *strangerCCP {
	key, err := ccp.NewKey([]byte("test key of the namespace lab 12"))
	if err != nil {
		t.Fatal(err)
	}
	s := &strangerCCP{conn: []*packet.Conn{p.Switch.Raw("a-lan"), p.Switch.Raw("b-lan")}, key: key, env: ccp.Envelope{Dst: ccp.GroupMAC(speaker.Group(7)), Src: wire.MAC{2, 0, 0, 0, 0, 9},
		SrcIP: netip.MustParseAddr("10.1.0.66"), DstIP: speaker.Group(7)}}
	t.Cleanup(func() {
		for _, c := range s.conn {
			c.Close()
		}
	})
	return s
}

func (s *strangerCCP) frame(p ccp.Packet) []byte {
	return ccp.AppendFrame(nil, s.env, s.key.Seal(p.Append(nil)))
}

// send reports how many members the frame was handed to.
func (s *strangerCCP) send(frame []byte) (n int) {
	for _, c := range s.conn {
		if _, err := c.WriteTo(frame, &packet.Addr{HardwareAddr: s.env.Dst[:]}); err == nil {
			n++
		}
	}
	return n
}

// TestBadControlPackets: counted by reason, believed never.
func TestBadControlPackets(t *testing.T) {
	p := started(t)
	p.Wait("b knows what a thinks", func() bool { return opinion(p.B.Status().Opinions, 1) == "STANDBY" })
	s := stranger(t, p)
	lie := ccp.Packet{Version: 1, Cluster: 7, Interface: 1, Source: 1, Nonce: 99, Seq: 1 << 40,
		Message: ccp.MyState{Mode: ccp.ActiveUp, TimeUnit: 100, States: []ccp.State{ccp.Down, ccp.Down}}}
	foreign, unknown, mine, later := lie, lie, lie, lie
	foreign.Cluster, unknown.Source, mine.Source = 8, 5, 2
	later.Extension = []byte{200, 1, 2, 3}
	ttl, tag, product := s.frame(lie), s.frame(lie), s.frame(lie)
	ttl[22] = 64
	tag[len(tag)-1] ^= 1
	product[45] = 1
	frames := map[string][]byte{
		"ttl_too_low": ttl, "bad_tag": tag, "unproven": s.frame(lie), "foreign_cluster": s.frame(foreign), "unknown_member": s.frame(unknown),
		"ccp_from_myself": s.frame(mine), "truncated": s.frame(lie)[:60], "foreign_ccp": product,
	}
	// What a really says comes back from a mirrored port.
	own := p.Switch.Raw("a-lan")
	defer own.Close()
	own.SetReadDeadline(time.Now().Add(5 * time.Second))
	buf := make([]byte, 2048)
	for frames["replay"] == nil {
		n, _, err := own.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		if n > 42 && bin.BigEndian.Uint16(buf[36:]) == ccp.Port && buf[23] == 17 {
			frames["replay"] = slices.Clone(buf[:n])
		}
	}
	before := p.B.Status()
	for range 10 {
		for _, f := range frames {
			s.send(f)
		}
		time.Sleep(20 * time.Millisecond)
	}
	p.Wait("every reason counted", func() bool {
		r := p.B.Status().Control.Rejected
		for reason := range frames {
			if r[reason] < 10 {
				return false
			}
		}
		return true
	})
	if after := p.B.Status(); after.State != before.State || after.Term != before.Term || opinion(after.Opinions, 1) != "STANDBY" {
		t.Errorf("bad packets changed b: %s, opinion %q", after.State, opinion(after.Opinions, 1))
	}
}

// TestControlFlood: a stranger sends CCP as fast as it can, with tags that are wrong, into the LAN of both members. Heartbeats
// are not disturbed: no role changes, none is missing for as long as the dead time; and had looks at its budget only.
func TestControlFlood(t *testing.T) {
	p := started(t)
	s := stranger(t, p)
	frame := ccp.AppendFrame(nil, s.env, append([]byte{0x1a, 0x90, 0xfd, 0xe9}, make([]byte, 100)...))
	before, sent := p.A.Status(), 0
	start := time.Now()
	for time.Since(start) < 3*time.Second {
		for range 100 {
			sent += s.send(frame)
		}
	}
	took := time.Since(start).Seconds()
	a, b := p.A.Status(), p.B.Status()
	if a.State != "ACTIVE" || b.State != "STANDBY" || a.Term != before.Term || a.Failover.Count != before.Failover.Count {
		t.Errorf("after %d packets: a %s term %d, b %s", sent, a.State, a.Term, b.State)
	}
	for _, m := range []*pair.Member{p.A, p.B} {
		if log := m.Log(); strings.Contains(log, "peer_gone") || strings.Contains(log, "stalled") {
			t.Errorf("heartbeats were disturbed:\n%s", log)
		}
	}
	for _, m := range []member.Status{a, b} {
		looked := m.Control.Rejected["bad_tag"]
		t.Logf("%s: of %d packets in %.1f s %d looked at, %d dropped by the kernel", m.MemberName, sent/2, took, looked, m.Control.Rejected["flood"])
		if limit := uint64(500*(took+2)) + 500; looked == 0 || looked > limit {
			t.Errorf("%s looked at %d packets, its budget is %d", m.MemberName, looked, limit)
		}
	}
	p.Wait("CCP goes on after the flood", func() bool { return opinion(p.B.Status().Opinions, 1) == "STANDBY" })
}
