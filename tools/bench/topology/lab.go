package topology

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Lab is one network with two gateways. It is for one goroutine.
type Lab struct {
	Client, Server Namespace
	Gateways       [Members]*Gateway

	network Namespace // the switch
	all     []Namespace
}

// Open builds the network. The gateways are powered off.
func Open() (*Lab, error) {
	l := &Lab{}
	if err := l.build(); err != nil {
		return nil, errors.Join(fmt.Errorf("build the network: %w", err), l.Close())
	}
	return l, nil
}

func (l *Lab) build() error {
	for _, n := range []struct {
		role string
		ns   *Namespace
	}{{"switch", &l.network}, {"client", &l.Client}, {"server", &l.Server}} {
		if err := l.add(n.role, n.ns); err != nil {
			return err
		}
	}
	if err := l.network.plainBridges(); err != nil {
		return err
	}
	for _, ns := range l.all {
		// Neighbour discovery of IPv6 would only add noise.
		if err := ns.Set("net/ipv6/conf/all/disable_ipv6=1", "net/ipv6/conf/default/disable_ipv6=1"); err != nil {
			return err
		}
	}
	if err := l.network.Batch(switchScript(l.Client, l.Server)...); err != nil {
		return err
	}
	if err := l.Client.Batch("addr add "+Client.String()+"/24 dev eth0", "link set eth0 up", "route add default via "+LANVIP.String()); err != nil {
		return err
	}
	if err := l.Server.Batch("addr add "+Server.String()+"/24 dev eth0", "link set eth0 up"); err != nil {
		return err
	}
	// The sync cable: both ends wait in the switch for their gateways.
	if err := l.network.Batch(fmt.Sprintf("link add %s address %s type veth peer name %s address %s",
		portName(0, Sync), mac(3, 1), portName(1, Sync), mac(3, 2))); err != nil {
		return err
	}
	for i := range l.Gateways {
		l.Gateways[i] = &Gateway{Index: i, Name: fmt.Sprintf("gw-%c", 'a'+i), lab: l}
	}
	return nil
}

// plainBridges keeps the bridges of a namespace from handing their frames to netfilter, which drops heartbeats:
// the IP checksum of Twinkeep's is wrong on purpose.
func (n Namespace) plainBridges() error {
	return n.Do(func() error {
		for _, name := range []string{"iptables", "ip6tables", "arptables"} {
			err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-"+name, []byte("0"), 0)
			if err != nil && !errors.Is(err, fs.ErrNotExist) { // there only with the module br_netfilter
				return fmt.Errorf("keep netfilter off the bridges: %w", err)
			}
		}
		return nil
	})
}

func (l *Lab) add(role string, to *Namespace) error {
	ns, err := create(role)
	if ns != "" {
		l.all = append(l.all, ns)
		*to = ns
	}
	return err
}

// Close ends every process in the network and removes it.
func (l *Lab) Close() error {
	var errs []error
	for _, g := range l.Gateways {
		if g != nil && g.NS != "" {
			errs = append(errs, g.NS.remove())
			g.NS = ""
		}
	}
	for _, ns := range l.all {
		errs = append(errs, ns.remove())
	}
	l.all = nil
	return errors.Join(errs...)
}
