package speaker

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twinkeep/twinkeep/ha/ccp"
	"github.com/twinkeep/twinkeep/ha/cluster"
	"github.com/twinkeep/twinkeep/ha/port"
	"github.com/twinkeep/twinkeep/ha/probe"
	"github.com/twinkeep/twinkeep/ha/wire"
)

// iface is one NIC at run time.
type iface struct {
	Interface
	mu      sync.Mutex
	port    *port.Control // nil while it is not open; mu
	openAt  time.Duration // last attempt
	problem string        // why it failed
	mac     wire.MAC

	frames    uint64        // the NIC's counter of received frames
	countedAt time.Duration // when it was read
	droppedAt time.Duration // when the kernel was asked what it dropped

	known     []netip.Addr         // neighbours worth asking
	knownAt   time.Duration        // last read from the kernel
	addresses map[uint8]netip.Addr // peers' private addresses, by their word
	asked     int                  // how often they were asked for them
	query     bool                 // a new boot of a peer is to be asked for its state
	busy      bool                 // a solicitation is under way

	logged   probe.Verdict
	loggedAt time.Duration
}

// reopen is the time between two attempts to open a NIC.
const reopen = time.Second

// maxAsked is how often peers are asked for their addresses.
const maxAsked = 10

// open opens a NIC that is there and not open, and closes one that is gone.
func (s *Speaker) open(i int, f *iface, wg *sync.WaitGroup, done <-chan struct{}) {
	p := f.current()
	switch present := s.view.Links[i].Present; {
	case p != nil && !present:
		f.close()
	case p != nil && s.now()-f.droppedAt >= statePeriod:
		f.droppedAt = s.now()
		if n := p.Dropped(); n > 0 {
			s.refuse(i, ccp.Flood, n)
		}
	case p == nil && present && f.Heartbeat && s.now()-f.openAt >= reopen:
		f.openAt = s.now()
		ifi, err := net.InterfaceByName(f.Device)
		if err != nil || len(ifi.HardwareAddr) != 6 {
			return
		}
		p, err := port.OpenControl(f.Device, ccp.Port, s.group)
		if err != nil {
			if f.problem != err.Error() {
				f.problem = err.Error()
				s.cfg.Event(cluster.Log{Severity: cluster.Warning, Name: EvOpen, Text: fmt.Sprintf("no CCP on %s: %v; trying again", f.Name, err)})
			}
			return
		}
		f.problem = ""
		f.mac = wire.MAC(ifi.HardwareAddr)
		f.mu.Lock()
		f.port = p
		f.mu.Unlock()
		wg.Go(func() { s.receive(i, p, done) })
	}
}

func (f *iface) current() *port.Control {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.port
}

func (f *iface) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.port != nil {
		f.port.Close()
		f.port = nil
	}
}

// lost closes a port that failed, so that it is opened again.
func (s *Speaker) lost(i int, p *port.Control) {
	f := s.ifaces[i]
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.port == p {
		p.Close()
		f.port = nil
	}
}

// send sends one packet by an interface, if it is open.
func (s *Speaker) send(i int, to uint8, id uint16, m ccp.Message, ext []byte) {
	f := s.ifaces[i]
	p := f.current()
	if p == nil || s.view.Nonce == 0 {
		return
	}
	s.seq++
	packet := ccp.Packet{Version: 1, Cluster: s.cfg.Cluster, Interface: f.Number, RandomID: id, Source: s.cfg.Self, Destination: to,
		PolicyID: ccp.PolicyID(s.policy), Message: m, Nonce: s.view.Nonce, Seq: s.seq, Extension: ext}
	s.payload = s.key.Seal(packet.Append(s.payload[:0]))
	e := ccp.Envelope{Dst: ccp.GroupMAC(s.group), Src: f.mac, SrcIP: f.Address.Addr(), DstIP: s.group}
	s.frame = ccp.AppendFrame(s.frame[:0], e, s.payload)
	if p.Send(s.frame) == nil {
		s.sent++
	}
}

// askAddresses asks living peers for their address on an interface until they have told it.
func (s *Speaker) askAddresses(i int, f *iface) {
	missing := slices.ContainsFunc(s.view.Peers, func(p Peer) bool { return p.Alive && !f.addresses[p.ID].IsValid() })
	if missing && f.asked < maxAsked {
		f.asked++
		s.send(i, ccp.Everyone, 0, ccp.IfConfReq{}, nil)
	}
}

// framesReceived is the NIC's counter of received frames.
func (f *iface) framesReceived() uint64 {
	b, err := os.ReadFile(filepath.Join("/sys/class/net", f.Device, "statistics/rx_packets"))
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	return n
}

// refresh reads who lives on the LAN. Who was known stays known as long as there is room: the kernel forgets neighbours
// that do not answer, and those are the ones to ask.
func (f *iface) refresh(now time.Duration) {
	f.knownAt = now
	list, err := port.Neighbours(f.Device, maxKnown)
	if err != nil {
		return
	}
	list = slices.DeleteFunc(list, func(a netip.Addr) bool { return a == f.Address.Addr() })
	for _, a := range f.known {
		if len(list) < maxKnown && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	f.known = list
}

// solicitWait is how long answers of neighbours are waited for, less than a round of questions.
const solicitWait = 800 * time.Millisecond

// solicit asks the neighbours that are known, the peers, and also.
func (s *Speaker) solicit(i int, also []netip.Addr) {
	f := s.ifaces[i]
	if f.busy {
		return
	}
	f.refresh(s.now())
	targets := slices.Clone(f.known)
	for _, a := range also {
		if f.Address.Contains(a) && a != f.Address.Addr() && !slices.Contains(targets, a) {
			targets = append(targets, a)
		}
	}
	for _, a := range f.addresses {
		if !slices.Contains(targets, a) {
			targets = append(targets, a)
		}
	}
	if len(targets) == 0 {
		return
	}
	f.busy = true
	go func() {
		// An error is a NIC that is down or gone: nobody answers.
		_ = port.Solicit(f.Device, f.Address.Addr(), targets, solicitWait, func(a netip.Addr) {
			select {
			case s.answers <- probe.Answer{Interface: i, From: a}:
			default:
			}
		})
		s.locked(func() { f.busy = false })
	}()
}
