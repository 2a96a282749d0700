package statesync

// EventKind says what happened to an entry of the own kernel's table.
type EventKind uint8

// Kinds of events.
const (
	EventNew EventKind = iota
	EventUpdate
	EventDestroy
	EventExpect
	EventExpectDestroy
)

// Event is what the kernel told. Only the fields of its kind are in use. An update has only what changed besides
// tuples, status and mark.
type Event struct {
	Kind   EventKind
	Flow   Flow
	Expect *Expect
}
