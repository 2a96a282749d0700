package nic

import (
	"errors"
	"fmt"
	"net"
)

// NN returns the byte that stands for place p in heartbeat and shared MACs. The package comment has the layout.
func NN(p Place) uint8 {
	return p.Bus&7<<5 | p.Slot&7<<2 | p.Port&3
}

// SharedMAC returns the unicast address 10:00:00:00:NN:MM that virtual addresses answer with; MM is the cluster ID.
// It is the address of the heartbeats (wire.BeatMAC) with the group bit clear, because an interface cannot own a group address.
func SharedMAC(nn, clusterID uint8) net.HardwareAddr {
	return net.HardwareAddr{0x10, 0, 0, 0, nn, clusterID}
}

// Identity is what an interface is called and the NN in force for it, computed or set by hand.
type Identity struct {
	Name  string
	Place Place
	NN    uint8
}

// Identity returns the identity of n with the NN that its place gives.
func (n Named) Identity() Identity {
	return Identity{Name: n.Name, Place: n.Place(), NN: NN(n.Place())}
}

// CollisionError says that two interfaces of one member would use the same shared MAC.
type CollisionError struct {
	A, B Identity
}

func (e *CollisionError) Error() string {
	return fmt.Sprintf("interfaces %s (%v) and %s (%v) both have NN %#02x and so the same shared MAC: "+
		"set a different `nn:` for %s in the node files of all members",
		e.A.Name, e.A.Place, e.B.Name, e.B.Place, e.A.NN, e.B.Name)
}

// Collisions returns nil when every interface has an NN of its own. Otherwise it returns one *CollisionError for each
// interface whose NN an earlier one has, joined.
func Collisions(ids []Identity) error {
	var errs []error
	owner := make(map[uint8]Identity)
	for _, id := range ids {
		if first, taken := owner[id.NN]; taken {
			errs = append(errs, &CollisionError{A: first, B: id})
			continue
		}
		owner[id.NN] = id
	}
	return errors.Join(errs...)
}
