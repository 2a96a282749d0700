// Package gate holds the lease and the gate of a member, inside the kernel, as an nftables netdev table.
//
// The gate is what frames to and from the shared MAC must pass on every NIC that carries a virtual address.
// It is open only while a lease is alive, and the lease is worked by nothing but the member's own
// heartbeats as they leave: the egress hook reads the order each of them carries (ha/wire) and
//
//	keep   renews a lease that has not run out; if it has, the heartbeat is dropped, so that a late one
//	       neither revives the gate nor tells peers that it is open
//	open   starts a lease
//	shut   shuts the gate at once
//	drain  shuts it, but frames may still come in for a while; what is forwarded leaves from the NIC's own MAC
//
// So the gate cannot differ from what peers hear, no netlink call stands between a decision and its effect,
// a long ruleset transaction cannot delay a takeover, and when the process or its clock stops, the kernel
// lets the lease run out. Tried by hand first in reference/gate.md.
//
// One set holds three keys, each with a timeout: 1 the lease, 2 draining, 3 shut. Nothing is ever
// deleted from it on the packet path; shut is a key that outlives the lease, because the kernel's dynset delete
// leaks the element's memory and its place in the set (net/netfilter/nft_set_hash.c, nft_rhash_delete). The set's timeouts
// count jiffies: a lease is rounded down to them, so it never outlives its nominal time.
//
// The gate also limits the rate of incoming heartbeats per NIC, see floodRate.
//
// The gate sits on the parent NIC and not on the macvlan, before flowtables (priority -500): a macvlan takes
// its frames behind the parent's ingress hook. ARP for a virtual address can leave only from its shared MAC,
// whatever the ARP parameters of the box say.
package gate
