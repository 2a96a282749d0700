package pair

import (
	"encoding/base64"
	"fmt"

	"github.com/twinkeep/twinkeep/tools/bench/topology"
)

// benchKey authenticates heartbeats that never leave this machine.
var benchKey = base64.StdEncoding.EncodeToString([]byte("cluster key of tools/bench: any!"))

// nodeFile has places, because a veth has none on the PCI tree; the same on both members, as in twin hardware.
func nodeFile(index int, p Profile) string {
	return fmt.Sprintf(`version: 1
hostname: gw-%c
cluster:
  id: 71
  name: bench
  member: %d
  key: %s
  members:
    - {id: 1, name: gw-a, priority: 120}
    - {id: 2, name: gw-b, priority: 100}
  timing: {beat: %s, lease: %s, dead: %s}
interfaces:
  - {name: lan, device: lan, place: 0/3/0, zone: lan, address: %s, vips: [%s]}
  - {name: wan, device: wan, place: 0/4/0, zone: wan, address: %s, vips: [%s]}
  - {name: sync, device: sync, place: 0/5/0, sync: true, address: %s}
nat:
  - {from: [%s], out: wan, to: vip, ports: random}
helpers: [ftp]
`, 'a'+index, index+1, benchKey, p.Beat, p.Lease, p.Dead,
		topology.Address(index, topology.LAN), topology.LANVIP,
		topology.Address(index, topology.WAN), topology.WANVIP,
		topology.Address(index, topology.Sync), topology.LANPrefix)
}
