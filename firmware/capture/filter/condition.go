package filter

import "golang.org/x/net/bpf"

// condition is true or false of a packet: always, and, or, not, test.
type condition interface{ isCondition() }

type (
	// always is a condition whose answer is known.
	always bool
	and    struct{ a, b condition }
	or     struct{ a, b condition }
	not    struct{ a condition }
	// test loads something into register A, and into X too when against is register, and compares.
	test struct {
		load     []bpf.Instruction
		relation bpf.JumpTest
		value    uint32
		register bool // compare with X instead of value
	}
)

func (always) isCondition() {}
func (and) isCondition()    {}
func (or) isCondition()     {}
func (not) isCondition()    {}
func (test) isCondition()   {}

// allOf is true when all of c are; anyOf when one of them is.
func allOf(c ...condition) condition {
	return fold(c, func(a, b condition) condition { return and{a, b} })
}
func anyOf(c ...condition) condition {
	return fold(c, func(a, b condition) condition { return or{a, b} })
}

func fold(c []condition, join func(a, b condition) condition) condition {
	out := c[0]
	for _, next := range c[1:] {
		out = join(out, next)
	}
	return out
}

// at compares size bytes at an offset from the start of the frame.
func at(off, size uint32, relation bpf.JumpTest, value uint32) condition {
	return test{load: []bpf.Instruction{bpf.LoadAbsolute{Off: off, Size: int(size)}}, relation: relation, value: value}
}

func equal(off, size, value uint32) condition { return at(off, size, bpf.JumpEqual, value) }

// masked compares the bits of a 32-bit word that are set in mask.
func masked(off, mask, value uint32) condition {
	switch mask {
	case 0:
		return always(true)
	case 1<<32 - 1:
		return equal(off, 4, value)
	}
	return test{
		load:     []bpf.Instruction{bpf.LoadAbsolute{Off: off, Size: 4}, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask}},
		relation: bpf.JumpEqual, value: value & mask,
	}
}

// behindIP loads size bytes at an offset from the end of the IPv4 header that starts at ip.
func behindIP(ip, off, size uint32) []bpf.Instruction {
	return []bpf.Instruction{bpf.LoadMemShift{Off: ip}, bpf.LoadIndirect{Off: ip + off, Size: int(size)}}
}
