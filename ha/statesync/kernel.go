package statesync

// KernelKind says what a [KernelOp] does.
type KernelKind uint8

// Operations on the kernel's table.
const (
	KernelCreate       KernelKind = iota // make the entry, in place of whatever has its tuples
	KernelUpdate                         // change the entry, make it if there is none
	KernelAdd                            // make the entry unless there is one
	KernelDelete                         // no error when there is none
	KernelExpect                         // make the expectation or change its timeout
	KernelExpectDelete                   // no error when there is none
)

// KernelOp is one change of the kernel's table. Key is that of the entry.
type KernelOp struct {
	Kind   KernelKind
	Key    uint64
	Flow   Flow
	Expect *Expect
}

// Kernel is the table of the own kernel.
type Kernel interface {
	// Begin begins to carry out operations in order; End waits until they are and gives an error, or nil, for each. Between
	// the two the operations are not touched, nor others begun. [TableFull] means that there is no room for one more entry,
	// and that nothing was evicted to make some.
	Begin([]KernelOp)
	End() []error
	// Size gives the number of entries and the most there may be.
	Size() (count, most int)
}
