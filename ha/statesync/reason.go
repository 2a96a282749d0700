package statesync

import "fmt"

// Reason says why something from a peer was refused. It is an error and the key of a counter.
type Reason string

// Reasons.
const (
	Truncated    Reason = "truncated"
	TooLong      Reason = "too_long"
	BadFrame     Reason = "bad_frame"   // type unknown, or not the length that its type has
	BadRecord    Reason = "bad_record"  // operation, family or field that does not exist, or does not fit the protocol
	BadAddress   Reason = "bad_address" // loopback, multicast, unspecified
	BadValue     Reason = "bad_value"   // outside what the kernel has
	BadHelper    Reason = "bad_helper"  // a helper or function that is not carried
	BadHello     Reason = "bad_hello"
	BadVersion   Reason = "bad_version"
	OtherCluster Reason = "other_cluster"
	NotAMember   Reason = "not_a_member"
	OutOfOrder   Reason = "out_of_order" // a frame before the hello, or a repair that did not begin
	TooMany      Reason = "too_many"     // connections that have not authenticated yet
	// These two are no reason to close a connection.
	LocalAddress Reason = "local_address" // an entry of this member's own traffic
	StaleTerm    Reason = "stale_term"    // a change by a member that has no role or an older term
	TableFull    Reason = "table_full"
	KernelError  Reason = "kernel_error"
)

// Error implements error.
func (r Reason) Error() string { return string(r) }

func because(r Reason, format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{r}, args...)...)
}
