package speaker

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/ha/ccp"
	"github.com/twinkeep/twinkeep/ha/cluster"
	"github.com/twinkeep/twinkeep/ha/probe"
	"github.com/twinkeep/twinkeep/ha/wire"
)

var testKey = []byte("0123456789abcdef0123456789abcdef")

const boot = 0xb007

// speaker of member 1 of cluster 7, which believes in a boot of member 2. Its NICs do not exist, so it sends nothing.
func newSpeaker(t testing.TB, events *[]cluster.Log) *Speaker {
	t.Helper()
	s, err := New(Config{Cluster: 7, Self: 1, Key: testKey, Mode: ccp.ActiveUp, Silence: time.Second,
		Members:    []probe.Member{{ID: 1, Name: "a"}, {ID: 2, Name: "b"}, {ID: 3, Name: "c"}},
		Interfaces: []Interface{{Name: "G1", Device: "tk-none", Number: 1, Heartbeat: true, Address: netip.MustParsePrefix("10.1.0.2/24")}},
		Event:      func(l cluster.Log) { *events = append(*events, l) },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.look(View{Nonce: 1, State: wire.Active, Peers: []Peer{{ID: 2, Alive: true, Boot: boot, State: wire.Standby, Heard: []time.Duration{0}}, {ID: 3, State: wire.Lost, Heard: []time.Duration{-1}}},
		Links: []Link{{Present: true, Up: true}}})
	return s
}

func frame(t testing.TB, change func(*ccp.Packet, *ccp.Envelope)) []byte {
	t.Helper()
	k, err := ccp.NewKey(testKey)
	if err != nil {
		t.Fatal(err)
	}
	p := ccp.Packet{Version: 1, Cluster: 7, Interface: 1, Source: 2, Nonce: boot, Seq: 1,
		Message: ccp.MyState{Mode: ccp.ActiveUp, TimeUnit: 100, States: []ccp.State{ccp.Active, ccp.Standby, ccp.Down}}}
	e := ccp.Envelope{Dst: ccp.GroupMAC(Group(7)), Src: wire.MAC{2}, SrcIP: netip.MustParseAddr("10.1.0.3"), DstIP: Group(7)}
	change(&p, &e)
	return ccp.AppendFrame(nil, e, k.Seal(p.Append(nil)))
}

func (s *Speaker) hear(b []byte) {
	f := received{n: len(b)}
	copy(f.data[:], b)
	s.handle(&f)
}

// TestAdmission: what counts, and the name of the counter of what does not.
func TestAdmission(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*ccp.Packet, *ccp.Envelope)
		want   ccp.Reason // empty: accepted
	}{
		{"good", func(*ccp.Packet, *ccp.Envelope) {}, ""},
		{"good, to us alone", func(p *ccp.Packet, e *ccp.Envelope) { p.Destination = 1 }, ""},
		{"boot not proved by heartbeats", func(p *ccp.Packet, _ *ccp.Envelope) { p.Nonce++ }, wire.Unproven},
		{"member that was never heard", func(p *ccp.Packet, _ *ccp.Envelope) { p.Source, p.Nonce = 3, 0 }, wire.Unproven},
		{"ourselves", func(p *ccp.Packet, _ *ccp.Envelope) { p.Source = 1 }, ccp.Myself},
		{"stranger with our key", func(p *ccp.Packet, _ *ccp.Envelope) { p.Source = 4 }, wire.Unknown},
		{"other cluster with our key", func(p *ccp.Packet, _ *ccp.Envelope) { p.Cluster = 8 }, wire.Foreign},
		{"other cluster's group", func(_ *ccp.Packet, e *ccp.Envelope) { e.DstIP = Group(8) }, wire.Foreign},
	} {
		t.Run(c.name, func(t *testing.T) {
			var events []cluster.Log
			s := newSpeaker(t, &events)
			b := frame(t, c.change)
			s.hear(b)
			st := s.Status()
			switch {
			case c.want != "" && (st.Refused[string(c.want)] != 1 || st.Received != 0 || len(st.Opinions) != 0):
				t.Errorf("refused %v, received %d, opinions %v; want %s", st.Refused, st.Received, st.Opinions, c.want)
			case c.want == "" && (len(st.Refused) != 0 || len(st.Opinions) != 3):
				t.Errorf("refused %v, opinions %v", st.Refused, st.Opinions)
			}
			s.hear(b) // the same again is never good
			if n := s.Status().Received; c.want == "" && (n != 1 || s.Status().Refused["replay"] != 1) {
				t.Errorf("received %d, refused %v", n, s.Status().Refused)
			}
		})
	}
}

// TestRefusalsAreLoggedRarely: the first at once, then ever more rarely, however many there are.
func TestRefusalsAreLoggedRarely(t *testing.T) {
	var events []cluster.Log
	s := newSpeaker(t, &events)
	bad := frame(t, func(p *ccp.Packet, _ *ccp.Envelope) { p.Source = 4 })
	for range 1000 {
		s.hear(bad)
	}
	if len(events) != 1 || events[0].Name != EvRefused || s.Status().Refused["unknown_member"] != 1000 {
		t.Errorf("%d events %v, refused %v", len(events), events, s.Status().Refused)
	}
}

// TestNewBootOfAPeer: its old opinion goes with the old boot.
func TestNewBootOfAPeer(t *testing.T) {
	var events []cluster.Log
	s := newSpeaker(t, &events)
	s.hear(frame(t, func(p *ccp.Packet, _ *ccp.Envelope) { p.Seq = 1 << 50 }))
	v := s.view
	v.Peers[0].Boot = boot + 1
	s.look(v)
	if o := s.Status().Opinions; len(o) != 0 {
		t.Errorf("opinions %v", o)
	}
	s.hear(frame(t, func(p *ccp.Packet, _ *ccp.Envelope) { p.Seq = 1 << 51 }))
	s.hear(frame(t, func(p *ccp.Packet, _ *ccp.Envelope) { p.Nonce = boot + 1 }))
	if st := s.Status(); st.Refused["unproven"] != 1 || len(st.Opinions) != 3 {
		t.Errorf("refused %v, opinions %v", st.Refused, st.Opinions)
	}
}

// TestPolicyChange: what a peer says of its policy is an event, once for all its interfaces, and changes nothing else.
func TestPolicyChange(t *testing.T) {
	var events []cluster.Log
	s := newSpeaker(t, &events)
	say := func(seq uint64, status ccp.PolicyStatus, id uint16) []byte {
		return frame(t, func(p *ccp.Packet, _ *ccp.Envelope) {
			p.Seq, p.Message, p.PolicyID = seq, ccp.PolicyChange{Status: status}, id
		})
	}
	s.hear(say(1, ccp.NewPolicyCluster, 5))
	s.hear(say(3, ccp.NewPolicyCluster, 5)) // by another interface
	s.hear(say(4, ccp.NewPolicy, 6))        // at once after the other
	s.hear(say(2, ccp.NewPolicyCluster, 5)) // by an interface that is slow
	s.hear(say(5, ccp.NewPolicy, 0))
	s.hear(say(6, ccp.ReadyToChange, 7))
	var got []string
	for _, e := range events {
		got = append(got, e.Text)
	}
	want := []string{"b runs another policy now, policy ID 5; it changes the cluster's settings", "b runs another policy now, policy ID 6", "b runs no policy any more", "b is ready to change to the policy of ID 7"}
	if !slices.Equal(got, want) {
		t.Errorf("events %q\nwant %q", got, want)
	}
	if st := s.Status(); st.Received != 6 || len(st.Opinions) != 0 || s.policy != 0 {
		t.Errorf("%+v, policy %d", st, s.policy)
	}
	for seq := uint64(7); seq < 1000; seq++ {
		s.hear(say(seq, ccp.NewPolicy, uint16(seq)))
	}
	if n := len(events); n > policyLogBurst+2*policyLogRate {
		t.Errorf("%d events of a peer that changes its policy all the time", n)
	}
}

func TestBucket(t *testing.T) {
	b := bucket{rate: rate, burst: burst}
	taken := 0
	for now := time.Duration(0); now < 10*time.Second; {
		if wait := b.take(now); wait > 0 {
			now += wait
			continue
		}
		taken++
	}
	if limit := burst + 10*rate + 1; taken > limit || taken < limit*9/10 {
		t.Errorf("%d frames in 10 s, want about %d", taken, limit)
	}
}

// FuzzHandle: whatever arrives, authentic or not, is taken in or refused by name.
func FuzzHandle(f *testing.F) {
	f.Add(frame(f, func(*ccp.Packet, *ccp.Envelope) {}), false)
	for _, m := range []ccp.Message{ccp.QueryState{}, ccp.IfProbeReq{Interface: 1}, ccp.IfProbeReply{Interface: 1}, ccp.IfConfReq{}, ccp.IfConfReply{Addr: netip.MustParseAddr("10.1.0.3")}, ccp.LBConfirm{}, ccp.PolicyChange{Status: ccp.NewPolicy}, ccp.Sync{}} {
		f.Add(frame(f, func(p *ccp.Packet, _ *ccp.Envelope) {
			p.Message, p.Extension = m, ccp.AppendReport(nil, ccp.Report{Interface: 1, Neighbours: []netip.Addr{netip.MustParseAddr("10.1.0.9")}})
		}), true)
	}
	key, err := ccp.NewKey(testKey)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte, sign bool) {
		if len(b) > ccp.MaxFrame {
			b = b[:ccp.MaxFrame]
		}
		if e, payload, err := ccp.ParseFrame(b); sign && err == nil && len(payload) > ccp.TagLen {
			b = ccp.AppendFrame(nil, e, key.Seal(append([]byte(nil), payload[:len(payload)-ccp.TagLen]...)))
		}
		var events []cluster.Log
		s := newSpeaker(t, &events)
		s.hear(b)
		if _, err := s.decode(b); err != nil && !errors.As(err, new(ccp.Reason)) {
			t.Errorf("refused without a name: %v", err)
		}
	})
}
