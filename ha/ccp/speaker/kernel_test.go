package speaker

import (
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/ha/ccp"
	"github.com/twinkeep/twinkeep/ha/cluster"
	"github.com/twinkeep/twinkeep/ha/probe"
	"github.com/twinkeep/twinkeep/ha/wire"
	"github.com/twinkeep/twinkeep/tools/netnslab"
)

// station is a speaker in a namespace whose member knows what the test says.
type station struct {
	*Speaker
	ns   *netnslab.NS
	mu   sync.Mutex
	view View
	done chan struct{}
}

func newStation(t *testing.T, ns *netnslab.NS, self uint8, address string, view View) *station {
	st := &station{ns: ns, view: view, done: make(chan struct{})}
	s, err := New(Config{Cluster: 7, Self: self, Key: testKey, Mode: ccp.ActiveUp, Silence: time.Second,
		Members:    []probe.Member{{ID: 1, Name: "a"}, {ID: 2, Name: "b"}},
		Interfaces: []Interface{{Name: "G1", Device: "g1", Number: 1, Heartbeat: true, Address: netip.MustParsePrefix(address)}},
		Event:      func(cluster.Log) {},
		Look: func() (View, bool) {
			st.mu.Lock()
			defer st.mu.Unlock()
			v := st.view
			v.Links = slices.Clone(v.Links)
			return v, true
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	st.Speaker = s
	return st
}

func (st *station) present(yes bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.view.Links = []Link{{Present: yes, Up: yes}}
}

func (st *station) says(of uint8) ccp.State {
	for _, o := range st.Status().Opinions {
		if o.Of == of {
			return o.State
		}
	}
	return ccp.Down
}

// TestOnTheWire: two speakers on a veth learn each other's opinion; a NIC that goes and comes back is opened again; both end
// when told, with every goroutine.
func TestOnTheWire(t *testing.T) {
	a, b := netnslab.New(t), netnslab.New(t)
	link := func() {
		netnslab.Veth(a, "g1", b, "g1")
		a.IP("addr add 10.9.0.1/24 dev g1")
		b.IP("addr add 10.9.0.2/24 dev g1")
	}
	link()
	view := func(nonce, boot uint64, peer uint8, own, other wire.State) View {
		return View{Nonce: nonce, State: own, Links: []Link{{Present: true, Up: true}},
			Peers: []Peer{{ID: peer, Alive: true, Boot: boot, State: other, Heard: []time.Duration{0}}}}
	}
	sa := newStation(t, a, 1, "10.9.0.1/24", view(11, 22, 2, wire.Active, wire.Standby))
	sb := newStation(t, b, 2, "10.9.0.2/24", view(22, 11, 1, wire.Ready, wire.Active))
	stop := make(chan struct{})
	for _, st := range []*station{sa, sb} {
		go func() {
			defer close(st.done)
			st.ns.Do(func() { st.Run(stop) })
		}()
	}
	wait := func(what string, cond func() bool) {
		t.Helper()
		for end := time.Now().Add(15 * time.Second); !cond(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("waited for: %s\na %+v\nb %+v", what, sa.Status(), sb.Status())
			}
		}
	}
	wait("opinions", func() bool { return sa.says(2) == ccp.Ready && sa.says(1) == ccp.Active && sb.says(2) == ccp.Standby })
	if groups := a.Run("ip", "maddr", "show", "dev", "g1"); !strings.Contains(groups, "239.255.0.7") {
		t.Errorf("the kernel is no member of the group:\n%s", groups)
	}
	a.IP("link del g1")
	sa.present(false)
	sb.present(false)
	wait("opinions are too old", func() bool { return len(sa.Status().Opinions) == 0 && len(sb.Status().Opinions) == 0 })
	link()
	sa.present(true)
	sb.present(true)
	wait("opinions again", func() bool { return sa.says(1) == ccp.Active && sb.says(2) == ccp.Standby })
	// The NIC is set down and up by somebody: the socket reports it, and is opened again.
	exec.Command("ip", "netns", "exec", a.Name, "ip", "link", "set", "g1", "down").Run()
	time.Sleep(100 * time.Millisecond)
	a.IP("link set g1 up")
	before := sb.Status().Received
	wait("packets after down and up", func() bool { return sb.Status().Received > before+2 })
	close(stop)
	for _, st := range []*station{sa, sb} {
		select {
		case <-st.done:
		case <-time.After(5 * time.Second):
			t.Fatal("a speaker does not end")
		}
	}
}
