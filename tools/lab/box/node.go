package box

// Node is the node file of a member of a pair whose peer is not there: it becomes ACTIVE. timing is that key's value; more follows
// the interfaces G1 and G2, and is a further one, other sections, or nothing.
func Node(timing, more string) string {
	return `version: 1
hostname: gw-a
board: auto
cluster:
  id: 7
  name: lab
  member: 1
  key: bGFiLWxhYi1sYWItbGFiLWxhYi1sYWItbGFiLWxhYiE=
  mode: active-up
  checksums: invalid
  members:
    - {id: 1, name: gw-a, priority: 120}
    - {id: 2, name: gw-b, priority: 100}
  timing: ` + timing + `
interfaces:
  - {name: G1, zone: lan, address: 10.1.0.2/24, vips: [10.1.0.1]}
  - {name: G2, zone: wan, address: 192.0.2.2/24, vips: [192.0.2.1]}
` + more
}
