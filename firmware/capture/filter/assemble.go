package filter

import (
	"slices"

	"golang.org/x/net/bpf"
)

// maxProgram is the longest program the kernel takes (BPF_MAXINSNS), in instructions.
const maxProgram = 4096

// program is written from its end: all jumps of a packet filter lead forward, so every target is there before the jump. Places are
// counted from the end, too.
type program struct{ reversed []bpf.Instruction }

// place is where an instruction is.
type place int

func (p *program) put(i bpf.Instruction) place {
	p.reversed = append(p.reversed, i)
	return place(len(p.reversed) - 1)
}

// distance is how many instructions a jump that is put next skips to get to a place.
func (p *program) distance(to place) int { return len(p.reversed) - int(to) - 1 }

// condition puts the code of c, which leads to yes or no, and gives its first place.
func (p *program) condition(c condition, yes, no place) place {
	switch c := c.(type) {
	case always:
		if c {
			return yes
		}
		return no
	case and:
		return p.condition(c.a, p.condition(c.b, yes, no), no)
	case or:
		return p.condition(c.a, yes, p.condition(c.b, yes, no))
	case not:
		return p.condition(c.a, no, yes)
	}
	t := c.(test)
	// A conditional jump skips 255 instructions at most, an unconditional one any number.
	if p.distance(yes) > 254 {
		yes = p.put(bpf.Jump{Skip: uint32(p.distance(yes))})
	}
	if p.distance(no) > 255 {
		no = p.put(bpf.Jump{Skip: uint32(p.distance(no))})
	}
	first := place(0)
	if t.register {
		first = p.put(bpf.JumpIfX{Cond: t.relation, SkipTrue: uint8(p.distance(yes)), SkipFalse: uint8(p.distance(no))})
	} else {
		first = p.put(bpf.JumpIf{Cond: t.relation, Val: t.value, SkipTrue: uint8(p.distance(yes)), SkipFalse: uint8(p.distance(no))})
	}
	for _, i := range slices.Backward(t.load) {
		first = p.put(i)
	}
	return first
}

// assemble makes the program that keeps snaplen bytes of what c is true of.
func assemble(c condition, snaplen uint32) ([]bpf.Instruction, bool) {
	p := &program{}
	no := p.put(bpf.RetConstant{Val: 0})
	yes := p.put(bpf.RetConstant{Val: snaplen})
	if first := p.condition(c, yes, no); int(first) != len(p.reversed)-1 {
		p.put(bpf.Jump{Skip: uint32(p.distance(first))}) // c is always the same
	}
	slices.Reverse(p.reversed)
	return p.reversed, len(p.reversed) <= maxProgram
}
