// Package probe finds out whose side failed when heartbeats stop on one interface while the members still hear each
// other elsewhere (after ClusterXL's interface probing): ours, a peer's, one direction, something between, or the whole
// LAN. It is pure: what is known and the time come in, questions and verdicts come out; sockets and clocks are
// ha/ccp/speaker's.
//
// # Evidence
//
// An interface is in trouble when it has no carrier, when a member that is alive elsewhere has not been heard on it for
// Config.Silence, or when such a member says for that long that it does not hear us. Then, once a second and later
// less often, the peers are asked over this and over other interfaces what they know of that LAN (IF_PROBE_REQ), and
// neighbours are asked by ARP and neighbour discovery here. A peer that is asked asks neighbours too, so that its answer is not
// older than the question.
//
// An answer of a neighbour proves that an interface works in both directions. Frames of any kind prove that it receives.
// A peer's proof counts only if it is from after our interface had fallen silent: the time of the question less the age
// the answer gives, which no delay on the way can make younger. So when the whole LAN dies, no old answer of the one
// member can put the blame on the other.
//
// # A problem of this member
//
// A verdict Ours needs all of this, three rounds long: nothing proves this interface, and a peer that is alive has
// proved its own on the same LAN since we found ours unproved; and either not one frame arrives here, or the very neighbours that answered the
// peer do not answer us. Two members can therefore not blame themselves by each other's evidence, and when nobody
// is better off (the switch is dead, or nobody is there to compare with) nobody blames himself: a demotion of all would
// change nothing, and one that comes a second earlier than the other would move the role for nothing.
//
// Once found, Ours stays until there is proof that this interface works, not until proof against it is missing, and the
// proof must hold for Config.Hold, twice as long each time the trouble comes back soon. So the role cannot follow a port
// that comes and goes.
package probe
