package main

import (
	be "encoding/binary" // binary is the product under test
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/tools/bench/crowd"
	"github.com/twinkeep/twinkeep/tools/netnslab"
	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

// place is a namespace as crowd wants it.
type place struct{ ns *netnslab.NS }

func (p place) Do(f func() error) (err error) {
	p.ns.Do(func() { err = f() })
	return err
}

// raw is a socket for one IP protocol or port.
type raw struct{ conn net.PacketConn }

func openRaw(t *testing.T, ns *netnslab.NS, network, address string) *raw {
	t.Helper()
	r := &raw{}
	ns.Try(func() (err error) { r.conn, err = net.ListenPacket(network, address); return err })
	t.Cleanup(func() { r.conn.Close() })
	return r
}

// hear waits for a packet that ok takes and gives it with its sender.
func (r *raw) hear(ok func([]byte) bool) ([]byte, net.Addr, error) {
	buf := make([]byte, 4096)
	r.conn.SetReadDeadline(time.Now().Add(time.Second))
	for {
		n, from, err := r.conn.ReadFrom(buf)
		if err != nil {
			return nil, nil, err
		}
		if ok(buf[:n]) {
			return append([]byte(nil), buf[:n]...), from, nil
		}
	}
}

// sctp is an association spoken by hand: the kernels at the ends have no SCTP.
type sctp struct {
	client, server       *raw
	inside, outside      uint16 // ports of the client, as it and as the server see it
	clientTag, serverTag uint32
	outsideAddr          net.Addr
}

// sctpPacket is a common header with one chunk (RFC 9260), with its CRC32c.
func sctpPacket(src, dst uint16, tag uint32, chunk uint8, body []byte) []byte {
	b := be.BigEndian.AppendUint16(nil, src)
	b = be.BigEndian.AppendUint16(b, dst)
	b = be.BigEndian.AppendUint32(b, tag)
	b = append(b, 0, 0, 0, 0, chunk, 3)
	b = be.BigEndian.AppendUint16(b, uint16(4+len(body)))
	b = append(b, body...)
	be.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

const sctpPort = 5000

func (s *sctp) toServer(chunk uint8, tag uint32, body []byte) error {
	if _, err := s.client.conn.WriteTo(sctpPacket(s.inside, sctpPort, tag, chunk, body), &net.IPAddr{IP: net.ParseIP(pair.Server)}); err != nil {
		return err
	}
	got, from, err := s.server.hear(func(b []byte) bool { return len(b) > 12 && b[12] == chunk })
	if err != nil {
		return fmt.Errorf("chunk %d to the server: %w", chunk, err)
	}
	port := be.BigEndian.Uint16(got)
	if s.outside == 0 {
		s.outside, s.outsideAddr = port, from
	}
	if port != s.outside || from.String() != s.outsideAddr.String() {
		return fmt.Errorf("the association comes from %v:%d, was %v:%d", from, port, s.outsideAddr, s.outside)
	}
	return nil
}

func (s *sctp) toClient(chunk uint8, tag uint32, body []byte) error {
	if _, err := s.server.conn.WriteTo(sctpPacket(sctpPort, s.outside, tag, chunk, body), s.outsideAddr); err != nil {
		return err
	}
	_, _, err := s.client.hear(func(b []byte) bool { return len(b) > 12 && b[12] == chunk && be.BigEndian.Uint16(b[2:]) == s.inside })
	if err != nil {
		return fmt.Errorf("chunk %d to the client: %w", chunk, err)
	}
	return nil
}

// openSCTP sets up an association: INIT, INIT ACK, COOKIE ECHO, COOKIE ACK.
func openSCTP(t *testing.T, p *pair.Pair) *sctp {
	s := &sctp{inside: 40123, clientTag: 0x11111111, serverTag: 0x22222222}
	s.client, s.server = openRaw(t, p.ClientNS, "ip4:132", pair.Client), openRaw(t, p.ServerNS, "ip4:132", pair.Server)
	initBody := func(tag uint32) []byte {
		b := be.BigEndian.AppendUint32(nil, tag)
		b = be.BigEndian.AppendUint32(b, 65536)
		return append(b, 0, 1, 0, 1, 0, 0, 0, 1)
	}
	for _, err := range []error{
		s.toServer(1, 0, initBody(s.clientTag)), s.toClient(2, s.clientTag, initBody(s.serverTag)),
		s.toServer(10, s.serverTag, []byte("cook")), s.toClient(11, s.clientTag, nil),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// check sends data in both directions, the server's first: its way back exists only where the association is known.
func (s *sctp) check() error {
	data := make([]byte, 16)
	if err := s.toClient(0, s.clientTag, data); err != nil {
		return err
	}
	return s.toServer(0, s.serverTag, data)
}

// openGRE sends packets of GRE, version 0, to the server and gives the check of the way back and forth.
func openGRE(t *testing.T, p *pair.Pair) func() error {
	client, server := openRaw(t, p.ClientNS, "ip4:47", pair.Client), openRaw(t, p.ServerNS, "ip4:47", pair.Server)
	packet := append([]byte{0, 0, 0x08, 0}, make([]byte, 20)...)
	all := func([]byte) bool { return true }
	there := func() error {
		client.conn.WriteTo(packet, &net.IPAddr{IP: net.ParseIP(pair.Server)})
		_, from, err := server.hear(all)
		if err == nil && from.String() != pair.WANVIP {
			err = fmt.Errorf("from %v", from)
		}
		return err
	}
	back := func() error {
		server.conn.WriteTo(packet, &net.IPAddr{IP: net.ParseIP(pair.WANVIP)})
		_, _, err := client.hear(all)
		return err
	}
	for _, f := range []func() error{there, back, there, back} {
		if err := f(); err != nil {
			t.Fatal("GRE: ", err)
		}
	}
	return func() error {
		if err := back(); err != nil {
			return fmt.Errorf("to the client: %w", err)
		}
		return there()
	}
}

// invite begins a call and gives the check that the other's voice arrives: RTP from the server to the place that the gateway
// has put into the message.
func invite(t *testing.T, p *pair.Pair, registrar *raw, port int) func() error {
	phone, voice := openRaw(t, p.ClientNS, "udp4", fmt.Sprint(pair.Client, ":", port)), openRaw(t, p.ClientNS, "udp4", fmt.Sprint(pair.Client, ":", port+1000))
	far := openRaw(t, p.ServerNS, "udp4", pair.Server+":0")
	sdp := fmt.Sprintf("v=0\r\no=- 1 1 IN IP4 %[1]s\r\ns=-\r\nc=IN IP4 %[1]s\r\nt=0 0\r\nm=audio %[2]d RTP/AVP 0\r\n", pair.Client, port+1000)
	message := fmt.Sprintf("INVITE sip:bob@%s SIP/2.0\r\nVia: SIP/2.0/UDP %[2]s:%[3]d;branch=z9hG4bK%[3]d\r\nMax-Forwards: 70\r\nFrom: <sip:a@%[2]s>;tag=1\r\nTo: <sip:bob@%[1]s>\r\n"+
		"Call-ID: %[3]d@test\r\nCSeq: 1 INVITE\r\nContact: <sip:a@%[2]s:%[3]d>\r\nContent-Type: application/sdp\r\nContent-Length: %[4]d\r\n\r\n%[5]s", pair.Server, pair.Client, port, len(sdp), sdp)
	phone.conn.WriteTo([]byte(message), &net.UDPAddr{IP: net.ParseIP(pair.Server), Port: 5060})
	got, _, err := registrar.hear(func(b []byte) bool { return strings.Contains(string(b), fmt.Sprint("Call-ID: ", port)) })
	if err != nil {
		t.Fatal("SIP: ", err)
	}
	m := regexp.MustCompile(`(?s)c=IN IP4 (\S+).*m=audio (\d+)`).FindStringSubmatch(string(got))
	if m == nil || m[1] != pair.WANVIP {
		t.Fatalf("the gateway has not translated the message: no helper is at work\n%s", got)
	}
	to := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(m[1] + ":" + m[2]))
	return func() error {
		far.conn.WriteTo([]byte("voice"), to)
		_, _, err := voice.hear(func(b []byte) bool { return string(b) == "voice" })
		return err
	}
}

// TestProtocolsSurvive: what is no plain connection goes on over a sudden death and a handover: a transfer and an announced
// data connection of FTP in active mode, the voice of a call that was set up before, SCTP, GRE, ICMP with its identifier.
func TestProtocolsSurvive(t *testing.T) {
	p := pair.NewPair(t, binary)
	for i, m := range []*pair.Member{p.A, p.B} {
		m.WriteNode(pair.NodeFile(i+1) + "helpers: [ftp, sip]\n")
	}
	p.StartBoth()
	p.Wait("both members to be in sync", func() bool { return syncOf(p.A).InSync && syncOf(p.B).InSync })
	p.ClientNS.Run("sysctl", "-qw", "net.ipv4.ping_group_range=0 0")
	many, err := crowd.Open(place{p.ClientNS}, place{p.ServerNS}, crowd.Plan{Direct: netip.MustParseAddr(pair.Server), ICMP: 10, FTP: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(many.Close)
	association, tunnel := openSCTP(t, p), openGRE(t, p)
	registrar, port := openRaw(t, p.ServerNS, "udp4", pair.Server+":5060"), 20000
	event := func(name string, do func()) {
		t.Helper()
		port++
		call := invite(t, p, registrar, port)
		if err := many.Prepare(); err != nil {
			t.Fatal(err)
		}
		p.Wait("everything to be replicated", func() bool { return syncOf(p.A).InSync && syncOf(p.B).InSync })
		time.Sleep(500 * time.Millisecond)
		do()
		for what, check := range map[string]func() error{"SCTP": association.check, "GRE": tunnel, "the voice of a SIP call": call} {
			if err := check(); err != nil {
				t.Errorf("%s: %s: %v", name, what, err)
			}
		}
		for _, l := range many.Check() {
			if l.Alive != l.Before {
				t.Errorf("%s: %v", name, l)
			}
		}
		if f := many.FTP(); f.Running != "complete" || f.Waiting != "complete" {
			t.Errorf("%s: FTP: %+v", name, *f)
			out, _ := exec.Command("ip", "netns", "exec", p.A.NS.Name, "conntrack", "-L").CombinedOutput()
			t.Logf("connections of a: %s\n%s", out, p.A.Log())
		}
	}
	event("handover", func() {
		p.WaitSync(p.B)
		if _, err := api.NewClient(p.A.Run()).Deactivate(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.WaitStates("STANDBY", "ACTIVE")
	})
	event("sudden death", func() {
		p.B.Kill()
		p.WaitStates("ACTIVE", "")
	})
}
