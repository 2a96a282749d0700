package had

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/ha/cluster"
	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/hal/nic"
)

// sysfs is where NICs are found.
const sysfs = "/sys"

// config turns a checked node file into a member's configuration. late are the devices that are missing and
// whose place nobody has given by hand.
func config(n *node.Node) (cfg member.Config, late []string, err error) {
	c := n.Cluster
	cfg = member.Config{
		ClusterID: c.ID, ClusterName: c.Name, Self: c.Member, Key: c.Key[:],
		ValidChecksums: c.Checksums == node.ChecksumsValid, Timing: cluster.Timing(c.Timing),
	}
	cfg.Safety, cfg.Lock = c.Safety, c.Lock
	for _, w := range c.Witnesses {
		cfg.Witnesses = append(cfg.Witnesses, member.Witness(w))
	}
	if c.Mode == node.ModePrimaryUp {
		cfg.Mode = cluster.PrimaryUp
	}
	for _, m := range c.Members {
		cfg.Members = append(cfg.Members, cluster.Member{ID: m.ID, Name: m.Name, Priority: m.Priority})
	}
	nics, _, err := nic.Scan(sysfs)
	if err != nil {
		return cfg, nil, err
	}
	places := map[string]nic.Place{}
	for _, f := range nics {
		places[f.Kernel] = f.Place()
	}
	var identities []nic.Identity
	for _, f := range n.Interfaces {
		id, err := identify(f, places)
		if errors.Is(err, errMissing) {
			late = append(late, f.Device)
		} else if err != nil {
			return cfg, nil, err
		} else {
			identities = append(identities, id)
		}
		cfg.Interfaces = append(cfg.Interfaces, member.Interface{
			Name: f.Name, Device: f.Device, Number: f.Number, NN: id.NN, Sync: f.Sync, Heartbeat: f.Beats,
			Address: f.Address, VIPs: f.VIPs,
		})
	}
	if err := nic.Collisions(identities); err != nil {
		return cfg, nil, err
	}
	cfg.Serial = serial(cfg.Interfaces)
	return cfg, late, nil
}

var errMissing = errors.New("no such NIC")

// identify finds an interface's NN: given by hand, from a place given by hand, or from where the NIC sits.
func identify(f node.Interface, places map[string]nic.Place) (nic.Identity, error) {
	id := nic.Identity{Name: f.Name}
	known := false
	if f.Place != "" {
		p, err := nic.ParsePlace(f.Place)
		if err != nil {
			return id, fmt.Errorf("interface %s: %w", f.Name, err)
		}
		id.Place, known = p, true
	} else if p, ok := places[f.Device]; ok {
		id.Place, known = p, true
	}
	id.NN = nic.NN(id.Place)
	if f.NN != nil {
		id.NN, known = *f.NN, true
	}
	if known {
		return id, nil
	}
	if _, err := net.InterfaceByName(f.Device); err != nil {
		return id, errMissing
	}
	return id, fmt.Errorf("interface %s: device %s has no PCI place to make its MAC addresses from: give 'place: bus/slot/port' or 'nn:' in the node file", f.Name, f.Device)
}

// serial is the member's serial number: the MAC of its first NIC.
func serial(interfaces []member.Interface) uint64 {
	for _, f := range interfaces {
		if ifi, err := net.InterfaceByName(f.Device); err == nil && len(ifi.HardwareAddr) == 6 {
			return binary.BigEndian.Uint64(append([]byte{0, 0}, ifi.HardwareAddr...))
		}
	}
	return 0
}
