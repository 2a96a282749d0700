package node

import (
	"encoding/json"
	"reflect"
	"slices"
)

// SameHA reports whether had and statesyncd read the same of both nodes, which both have a cluster section.
func SameHA(a, b *Node) bool { return seenByHA(a) == seenByHA(b) }

// SameHAButVIPs is SameHA, apart from VIPs and priorities, which had takes in while it runs.
func SameHAButVIPs(a, b *Node) bool { return seenByHA(plain(a)) == seenByHA(plain(b)) }

func plain(n *Node) *Node {
	c := *n.Cluster
	c.Members = slices.Clone(c.Members)
	for i := range c.Members {
		c.Members[i].Priority = 0
	}
	nics := slices.Clone(n.Interfaces)
	for i := range nics {
		nics[i].VIPs = nil
	}
	return &Node{Cluster: &c, Interfaces: nics}
}

func seenByHA(n *Node) string {
	c := *n.Cluster
	c.Name, c.KeyFile = "", ""
	nics := slices.Clone(n.Interfaces)
	for i := range nics {
		nics[i].Zone, nics[i].VIPsOutside = "", false
	}
	data, err := json.Marshal(Node{Cluster: &c, Interfaces: nics})
	if err != nil {
		return err.Error() // plain values: it does not happen
	}
	return string(data)
}

// Mixable reports whether a member that runs by a and one that runs by b may be alive together for as long as it takes to
// restart them one after the other. Who is listed, who has a vote, and how it is counted must be the same for all. Another
// beat or lease could make one member take the other for dead while that one's gate is open; another dead time cannot, for
// each is longer than the lease and a beat, which are the same. With votes, or with a third member whose turn is counted in
// dead times, also these have to be the same.
func Mixable(a, b *Cluster) bool {
	a, b = plain(&Node{Cluster: a}).Cluster, plain(&Node{Cluster: b}).Cluster
	if a.Safety != b.Safety || !reflect.DeepEqual(a.Members, b.Members) || !reflect.DeepEqual(a.Witnesses, b.Witnesses) {
		return false
	}
	if a.Timing == b.Timing {
		return true
	}
	return a.Timing.Beat == b.Timing.Beat && a.Timing.Lease == b.Timing.Lease && len(a.Members) == 2 && len(a.Witnesses) == 0 && !a.Safety
}
