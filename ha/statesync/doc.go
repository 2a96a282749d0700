// Package statesync keeps the connection tables of a cluster's members equal: the codec of the sync stream, a model of
// the own kernel's table with a digest per bucket, and the state machine of the protocol. It is pure: no socket, clock
// or goroutine. The kernel is in ctnl, the stream in link, the daemon that joins them in firmware/statesyncd.
//
// # How tables are kept equal
//
// Every member tells every peer what packets did to its own table ([Machine.Events]) and puts what peers tell into its
// kernel at once, so a takeover commits nothing. The holder of the role decides: its changes are applied as they
// are. What a member says that has no role (an old holder whose gate drains), or that speaks of an older term, can only
// add connections that are not there; it never changes or removes one. A stream is ordered, so within one
// term nothing goes backwards.
//
// The holder sends the digests of all buckets within its stream, at a place where both ends must have the same table, so
// they are compared exactly however busy the table is. For buckets that differ a member asks, and the holder
// reads them from its kernel and sends them whole. A joining member differs in all buckets: a full sync is the repair of
// everything. Every member also walks through its kernel's table all the time and corrects its model by it; what
// was lost between kernel and daemon is found there.
//
// # Timeouts
//
// The kernel tells of no packet that merely extends a connection's life. The walk finds them: when less than half of
// a connection's remaining time is left at the peers, the holder sends it again. Members without the role keep
// entries for [Grace] longer, so that they go when the holder says so.
package statesync
