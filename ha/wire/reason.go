package wire

// Reason is why a received frame was refused. It is an error, and its text is the name of the counter
// that operators see.
type Reason string

// Error returns the counter's name.
func (r Reason) Error() string { return string(r) }

// Reasons of the codec. ha/cluster adds those that need state.
const (
	NotHeartbeat Reason = "not_heartbeat"   // another protocol on UDP 999, or not IPv4/UDP 999 at all
	TTLTooLow    Reason = "ttl_too_low"     // TTL is not 255: it passed a router
	Truncated    Reason = "truncated"       // shorter than its own lengths say
	Oversized    Reason = "oversized"       // longer than its own lengths say, or than this version accepts
	Malformed    Reason = "malformed"       // a field outside its range
	BadTag       Reason = "bad_tag"         // wrong cluster key, or altered on the way
	Foreign      Reason = "foreign_cluster" // another cluster ID
	Myself       Reason = "heartbeat_from_myself"
	Unknown      Reason = "unknown_member" // a member ID that the node file does not list
	Replay       Reason = "replay"         // not newer than what was accepted on this interface
	Unproven     Reason = "unproven"       // a new boot that has not yet echoed our nonce
)
