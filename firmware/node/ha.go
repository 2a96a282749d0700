package node

import (
	"encoding/json"
	"slices"
)

// SameHA reports whether had and statesyncd read the same of both nodes, which both have a cluster section.
func SameHA(a, b *Node) bool { return seenByHA(a) == seenByHA(b) }

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
