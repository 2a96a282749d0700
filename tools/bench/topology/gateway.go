package topology

import (
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Gateway is one of the two. Its namespace exists between Boot and Off.
type Gateway struct {
	Index int    // 0 or 1
	Name  string // gw-a or gw-b
	NS    Namespace

	lab *Lab
}

// Boot gives the gateway an empty namespace with its three NICs, all up, without addresses.
func (g *Gateway) Boot() error {
	ns, err := create(g.Name)
	g.NS = ns
	if err != nil {
		return fmt.Errorf("boot %s: %w", g.Name, err)
	}
	script := append(cableScript(g.Index, ns), fmt.Sprintf("link set %s netns %s name %s", portName(g.Index, Sync), ns, Sync))
	if err := g.lab.network.Batch(script...); err != nil {
		return fmt.Errorf("plug %s in: %w", g.Name, err)
	}
	if err := ns.Batch("link set lan up", "link set wan up", fmt.Sprintf("link set sync group %d up", group(g.Index))); err != nil {
		return fmt.Errorf("boot %s: %w", g.Name, err)
	}
	return nil
}

// Off ends everything on the gateway. Only its end of the sync cable stays, so that the peer keeps its NIC.
func (g *Gateway) Off() error {
	if g.NS == "" {
		return nil
	}
	err := errors.Join(
		g.NS.KillAll(),
		g.lab.network.Batch("link del "+portName(g.Index, LAN), "link del "+portName(g.Index, WAN)),
		g.NS.Batch("link set sync down", fmt.Sprintf("link set sync netns %s name %s", g.lab.network, portName(g.Index, Sync))),
		g.NS.remove())
	g.NS = ""
	if err != nil {
		return fmt.Errorf("power %s off: %w", g.Name, err)
	}
	return nil
}

// Victim is a gateway prepared to die: what has to be looked up has been.
type Victim struct {
	g     *Gateway
	pids  []int
	ports *nl.NetlinkRequest // in the switch
	sync  *nl.NetlinkRequest // in the gateway
	close []func()
}

// lag between the loss of the network and the end of the processes of a gateway that dies.
const lag = 2 * time.Millisecond

// Prepare looks up all that the end of the gateway needs, so that the end itself is quick.
func (g *Gateway) Prepare() (*Victim, error) {
	v := &Victim{g: g}
	err := func() (err error) {
		if v.pids, err = g.NS.Processes(); err != nil {
			return err
		}
		if v.sync, err = v.downRequest(g.NS, group(g.Index)); err != nil {
			return err
		}
		v.ports, err = v.downRequest(g.lab.network, group(g.Index))
		return err
	}()
	if err != nil {
		v.Close()
		return nil, fmt.Errorf("prepare the end of %s: %w", g.Name, err)
	}
	return v, nil
}

// downRequest is a netlink message that takes a group of links down.
func (v *Victim) downRequest(ns Namespace, group int) (*nl.NetlinkRequest, error) {
	var s *nl.NetlinkSocket
	err := ns.Do(func() (err error) { s, err = nl.Subscribe(unix.NETLINK_ROUTE); return err })
	if err != nil {
		return nil, fmt.Errorf("open netlink in %s: %w", ns, err)
	}
	v.close = append(v.close, s.Close)
	r := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	r.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: s}}
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Change = unix.IFF_UP // to flags without it
	r.AddData(msg)
	r.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(uint32(group))))
	return r, nil
}

// Die cuts the gateway off from all its networks, and ends all its processes 2 ms later. It returns how long the
// cut took. lan and wan go down in one kernel transaction (one RTM_NEWLINK for the group, under one lock), so
// that no process on the gateway learns of the loss of one in time to tell its peer through the other.
func (v *Victim) Die() (cut time.Duration, err error) {
	start := time.Now()
	_, err1 := v.sync.Execute(unix.NETLINK_ROUTE, 0)
	_, err2 := v.ports.Execute(unix.NETLINK_ROUTE, 0)
	cut = time.Since(start)
	time.Sleep(lag)
	kill(v.pids)
	if err := errors.Join(err1, err2); err != nil {
		return cut, fmt.Errorf("cut %s off: %w", v.g.Name, err)
	}
	return cut, nil
}

// Kill ends all processes of the gateway, parents first: a supervisor must not see its children die. The
// network stays up.
func (v *Victim) Kill() { kill(v.pids) }

// Close forgets what was looked up.
func (v *Victim) Close() {
	for _, f := range v.close {
		f()
	}
	v.close = nil
}
