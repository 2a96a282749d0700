package filter

import (
	"strconv"

	"golang.org/x/net/bpf"
)

// number is something made of a packet's bytes: constant, load, length, operation. check is true of packets that have it; nil means all.
type number struct {
	constant *uint32
	length   bool
	load     *load
	op       bpf.ALUOp
	a, b     *number // operands; b is nil for the negative of a
	check    condition
}

// load is PROTOCOL[OFFSET:SIZE].
type load struct {
	base     uint32 // where the protocol begins, or the IPv4 header it is behind
	behindIP bool
	offset   *number
	size     int
}

// maxScratch is how many intermediate results the kernel's packet filter keeps.
const maxScratch = 16

// startsNumber reports whether what comes is a number or the beginning of a calculation.
func (p *parser) startsNumber() bool {
	t := p.peek()
	if t.text == "-" || t.text == "len" || p.is(1, "[") {
		return true
	}
	if _, named := constants[t.text]; named {
		return true
	}
	_, err := strconv.ParseUint(t.text, 0, 32)
	return err == nil
}

// relations of the kernel's packet filter.
var relations = map[string]bpf.JumpTest{
	"=": bpf.JumpEqual, "==": bpf.JumpEqual, "!=": bpf.JumpNotEqual, "<": bpf.JumpLessThan, "<=": bpf.JumpLessOrEqual, ">": bpf.JumpGreaterThan, ">=": bpf.JumpGreaterOrEqual,
}

// relation is a comparison of two numbers, or what has none.
func (p *parser) relation() value {
	left := p.sum(0)
	relation, compares := relations[p.peek().text]
	if !compares || p.peek().kind != symbol {
		return left
	}
	t := p.take()
	right := p.sum(0)
	if left.number == nil || right.number == nil {
		p.fail(t, "only numbers are compared", "")
	}
	return value{from: left.from, condition: p.compare(t, left.number, right.number, relation)}
}

func (p *parser) compare(t token, a, b *number, relation bpf.JumpTest) condition {
	c := test{relation: relation}
	if b.constant != nil {
		c.load, c.value = p.code(t, a, 0), *b.constant
	} else {
		c.register = true
		c.load = append(p.code(t, a, 0), bpf.StoreScratch{Src: bpf.RegA, N: 0})
		c.load = append(c.load, p.code(t, b, 1)...)
		c.load = append(c.load, bpf.TAX{}, bpf.LoadScratch{Dst: bpf.RegA, N: 0})
	}
	return withCheck(c, a.check, b.check)
}

// withCheck is c of packets that have what it compares.
func withCheck(c condition, checks ...condition) condition {
	for _, check := range checks {
		if check != nil {
			c = and{check, c}
		}
	}
	return c
}

// operators are those of calculations, with how strongly they bind to the left and to the right. Those of % and ^ are what the grammar of
// libpcap makes of them.
var operators = map[string]struct {
	op          bpf.ALUOp
	left, right int
}{
	"|": {bpf.ALUOpOr, 1, 2}, "&": {bpf.ALUOpAnd, 2, 3}, "<<": {bpf.ALUOpShiftLeft, 3, 4}, ">>": {bpf.ALUOpShiftRight, 3, 4},
	"+": {bpf.ALUOpAdd, 4, 5}, "-": {bpf.ALUOpSub, 4, 5}, "*": {bpf.ALUOpMul, 5, 6}, "/": {bpf.ALUOpDiv, 5, 6},
	"%": {bpf.ALUOpMod, 9, 0}, "^": {bpf.ALUOpXor, 9, 0},
}

// sum is a calculation, or something that is not a number when no operator follows it. Only operators that bind at least so strongly are taken.
func (p *parser) sum(strength int) value {
	if p.depth++; p.depth > maxDepth {
		p.fail(p.peek(), "nested too deep", "")
	}
	defer func() { p.depth-- }()
	left := p.atom()
	for {
		t := p.peek()
		o, known := operators[t.text]
		if !known || t.kind != symbol || o.left < strength {
			return left
		}
		p.take()
		right := p.sum(o.right)
		if left.number == nil || right.number == nil {
			p.fail(t, t.text+" stands between numbers", "and, or join conditions")
		}
		left.number, left.digits = p.combine(t, o.op, left.number, right.number), nil
	}
}

// combine calculates at once what it can.
func (p *parser) combine(t token, op bpf.ALUOp, a, b *number) *number {
	if b.constant != nil {
		switch {
		case (op == bpf.ALUOpDiv || op == bpf.ALUOpMod) && *b.constant == 0:
			p.fail(t, "a division by zero", "")
		case (op == bpf.ALUOpShiftLeft || op == bpf.ALUOpShiftRight) && *b.constant > 31:
			p.fail(t, "a shift by more than 31 bits", "")
		}
	}
	out := &number{op: op, a: a, b: b, check: joined(a.check, b.check)}
	if a.constant != nil && b.constant != nil {
		v := calculate(op, *a.constant, *b.constant)
		out = &number{constant: &v}
	}
	return out
}

func joined(a, b condition) condition {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return and{a, b}
}

func calculate(op bpf.ALUOp, a, b uint32) uint32 {
	switch op {
	case bpf.ALUOpOr:
		return a | b
	case bpf.ALUOpAnd:
		return a & b
	case bpf.ALUOpXor:
		return a ^ b
	case bpf.ALUOpShiftLeft:
		return a << b
	case bpf.ALUOpShiftRight:
		return a >> b
	case bpf.ALUOpAdd:
		return a + b
	case bpf.ALUOpSub:
		return a - b
	case bpf.ALUOpMul:
		return a * b
	case bpf.ALUOpDiv:
		return a / b
	}
	return a % b
}

// operand is a number, len, or bytes of a packet.
func (p *parser) operand() *number {
	t := p.take()
	switch {
	case t.text == "-":
		n := p.sum(6)
		if n.number == nil {
			p.fail(t, "a number was expected", "")
		}
		if c := n.number.constant; c != nil {
			v := -*c
			return &number{constant: &v}
		}
		return &number{a: n.number, check: n.number.check}
	case t.text == "len":
		return &number{length: true}
	case p.accept("["):
		return p.bytes(t)
	}
	if v, named := constants[t.text]; named {
		return &number{constant: &v}
	}
	v, err := strconv.ParseUint(t.text, 0, 32)
	if err != nil {
		p.fail(t, "a number was expected", "")
	}
	short := uint32(v)
	return &number{constant: &short}
}

// maxOffset is the largest constant offset into a packet: what is beyond can mean something else to the kernel.
const maxOffset = 65535

// bytes reads what is behind PROTOCOL[.
func (p *parser) bytes(proto token) *number {
	l, check := p.where(proto)
	at := p.peek()
	v := p.sum(0)
	if v.number == nil {
		p.fail(at, "an offset was expected", "")
	}
	if c := v.number.constant; c != nil && *c > maxOffset {
		p.fail(at, "an offset is at most 65535", "")
	}
	l.offset, l.size = v.number, 1
	if p.accept(":") {
		size := p.peek()
		if l.size = int(p.numberWord("a size")); l.size != 1 && l.size != 2 && l.size != 4 {
			p.fail(size, "1, 2 or 4 bytes can be read", "")
		}
	}
	p.close("]")
	return &number{load: l, check: joined(check, v.number.check)}
}

// where tells where a protocol begins, and of which packets.
func (p *parser) where(t token) (*load, condition) {
	n := p.network()
	if t.text == "ether" {
		return &load{}, nil
	}
	if e := etherTypes[t.text]; e != 0 && t.text != "lldp" {
		return &load{base: n}, p.carries(e)
	}
	proto := protocols[t.text]
	switch {
	case proto.number == 0:
		p.fail(t, "not a protocol with bytes to read", "ether, ip, ip6, arp, tcp, udp, icmp, icmp6 and others have them")
	case proto.over == over6:
		return &load{base: n + 40}, and{p.carries(etherIP6), equal(n+6, 1, proto.number)}
	}
	return &load{base: n, behindIP: true}, allOf(p.overIP(proto.number, over4), p.unfragmented())
}

// code puts the value of n into register A. Intermediate results from scratch on are free to use.
func (p *parser) code(t token, n *number, scratch int) []bpf.Instruction {
	switch {
	case scratch >= maxScratch:
		p.fail(t, "the calculation has too many parts that wait for others", "")
	case n.constant != nil:
		return []bpf.Instruction{bpf.LoadConstant{Dst: bpf.RegA, Val: *n.constant}}
	case n.length:
		return []bpf.Instruction{bpf.LoadExtension{Num: bpf.ExtLen}}
	case n.load != nil:
		return p.loadCode(t, n.load, scratch)
	case n.b == nil:
		return append(p.code(t, n.a, scratch), bpf.NegateA{})
	case n.b.constant != nil:
		return append(p.code(t, n.a, scratch), bpf.ALUOpConstant{Op: n.op, Val: *n.b.constant})
	}
	out := append(p.code(t, n.a, scratch), bpf.StoreScratch{Src: bpf.RegA, N: scratch})
	out = append(out, p.code(t, n.b, scratch+1)...)
	return append(out, bpf.TAX{}, bpf.LoadScratch{Dst: bpf.RegA, N: scratch}, bpf.ALUOpX{Op: n.op})
}

func (p *parser) loadCode(t token, l *load, scratch int) []bpf.Instruction {
	if c := l.offset.constant; c != nil {
		if l.behindIP {
			return behindIP(l.base, *c, uint32(l.size))
		}
		return []bpf.Instruction{bpf.LoadAbsolute{Off: l.base + *c, Size: l.size}}
	}
	out := p.code(t, l.offset, scratch)
	if l.behindIP {
		out = append(out, bpf.LoadMemShift{Off: l.base}, bpf.ALUOpX{Op: bpf.ALUOpAdd})
	}
	return append(out, bpf.TAX{}, bpf.LoadIndirect{Off: l.base, Size: l.size})
}
