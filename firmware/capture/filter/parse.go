package filter

import (
	"fmt"
	"strings"

	"golang.org/x/net/bpf"
)

const (
	// MaxLength is the longest expression, in bytes.
	MaxLength = 4096
	// maxDepth is how deep parentheses and nots may be nested.
	maxDepth = 64
)

// Options of Compile.
type Options struct {
	// Snaplen is how many bytes of a packet are kept, 1 or more; 0 means all, 262144 at most as with tcpdump.
	Snaplen uint32
	// Live is for programs of a packet socket: a tag the kernel has taken off the frame (the NIC does it for most) counts for vlan, and
	// inbound and outbound are known. Without it the program is for frames as they are in files.
	Live bool
}

// MaxSnaplen is what is kept of a packet at most, in bytes.
const MaxSnaplen = 262144

// Compile makes the program of an expression. The empty expression means all packets. Errors are *Error.
func Compile(expression string, o Options) ([]bpf.Instruction, error) {
	if len(expression) > MaxLength {
		return nil, &Error{expression, 0, fmt.Sprintf("it is longer than %d bytes", MaxLength), ""}
	}
	tokens, err := lex(expression)
	if err != nil {
		return nil, err
	}
	c, tagged, err := parse(expression, tokens, o.Live, false)
	if err != nil {
		return nil, err
	}
	if tagged && o.Live {
		stripped, _, err := parse(expression, tokens, true, true)
		if err != nil {
			return nil, err
		}
		present := extension(bpf.ExtVLANTagPresent, bpf.JumpNotEqual, 0)
		c = anyOf(allOf(present, stripped), allOf(not{present}, c))
	}
	if o.Snaplen == 0 || o.Snaplen > MaxSnaplen {
		o.Snaplen = MaxSnaplen
	}
	code, fits := assemble(c, o.Snaplen)
	if !fits {
		return nil, &Error{expression, 0, fmt.Sprintf("the program has %d instructions, the kernel takes %d", len(code), maxProgram), "use net for many hosts, portrange for many ports"}
	}
	return code, nil
}

func extension(e bpf.Extension, relation bpf.JumpTest, value uint32) condition {
	return test{load: []bpf.Instruction{bpf.LoadExtension{Num: e}}, relation: relation, value: value}
}

// parser reads one expression. What it reads it turns into conditions at once: nothing before vlan depends on what is behind it.
type parser struct {
	text     string
	tokens   []token
	next     int
	live     bool
	stripped bool // the outermost tag is not in the frame
	tagged   bool // there was a vlan
	shift    uint32
	last     *qualifiers // of the newest primitive, for those without any
	depth    int
}

// parse gives the condition, and whether it has a vlan. An error of this package is thrown as a panic of type *Error, and caught here.
func parse(text string, tokens []token, live, stripped bool) (c condition, tagged bool, err error) {
	p := &parser{text: text, tokens: tokens, live: live, stripped: stripped}
	defer func() {
		switch r := recover().(type) {
		case nil:
		case *Error:
			err = r
		default:
			panic(r)
		}
	}()
	if p.peek().kind == end {
		return always(true), false, nil
	}
	c = p.condition(p.expression())
	if t := p.peek(); t.kind != end {
		if _, known := absent[t.text]; known {
			p.unknown(t)
		}
		p.fail(t, "and, or, or the end of the filter was expected", "")
	}
	return c, p.tagged, nil
}

func (p *parser) fail(t token, text, hint string) {
	panic(&Error{p.text, t.at, text, hint})
}

func (p *parser) peek() token { return p.tokens[p.next] }

func (p *parser) take() token {
	t := p.tokens[p.next]
	if t.kind != end {
		p.next++
	}
	return t
}

// is reports whether the token n places on is one of these words or symbols.
func (p *parser) is(n int, texts ...string) bool {
	if p.next+n >= len(p.tokens) {
		return false
	}
	for _, t := range texts {
		if p.tokens[p.next+n].text == t {
			return true
		}
	}
	return false
}

// accept takes the next token if it is one of these.
func (p *parser) accept(texts ...string) bool {
	if !p.is(0, texts...) {
		return false
	}
	p.take()
	return true
}

// value is what a part of an expression stands for: a condition, or a number.
type value struct {
	from      token
	condition condition
	number    *number
	digits    *token // the number is this word and nothing else
}

// condition wants v to be true or false. A number alone is an identifier there, as in "port 80 or 443".
func (p *parser) condition(v value) condition {
	if v.digits != nil && p.last != nil {
		return p.identifier(*p.last, *v.digits)
	}
	if v.condition == nil {
		p.fail(v.from, "a number is neither true nor false here", "compare it: = != < <= > >=")
	}
	return v.condition
}

// expression is parts joined by and and or.
func (p *parser) expression() value {
	if p.depth++; p.depth > maxDepth {
		p.fail(p.peek(), "nested too deep", "")
	}
	defer func() { p.depth-- }()
	left := p.negation()
	for {
		switch {
		case p.accept("and", "&&"):
			left.condition = and{p.condition(left), p.condition(p.negation())}
		case p.accept("or", "||"):
			left.condition = or{p.condition(left), p.condition(p.negation())}
		default:
			return left
		}
		left.number, left.digits = nil, nil
	}
}

func (p *parser) negation() value {
	from := p.peek()
	if !p.accept("not", "!") {
		return p.relation()
	}
	if p.depth++; p.depth > maxDepth {
		p.fail(from, "nested too deep", "")
	}
	defer func() { p.depth-- }()
	return value{from: from, condition: not{p.condition(p.negation())}}
}

// atom is a primitive, a number, or something in parentheses.
func (p *parser) atom() value {
	t := p.peek()
	switch {
	case t.kind == end:
		p.fail(t, "something is missing", "")
	case p.accept("("):
		v := p.expression()
		p.close(")")
		v.from = t
		return v
	case t.kind == symbol && t.text != "-":
		p.fail(t, "a primitive was expected, such as host 10.1.0.5, tcp port 443, arp", "")
	case p.startsNumber():
		v := value{from: t, number: p.operand()}
		if '0' <= t.text[0] && t.text[0] <= '9' {
			v.digits = &t
		}
		return v
	}
	return value{from: t, condition: p.primitive()}
}

func (p *parser) close(bracket string) {
	if t := p.peek(); !p.accept(bracket) {
		p.fail(t, fmt.Sprintf("%q was expected", bracket), "")
	}
}

// unknown explains a word that is not known.
func (p *parser) unknown(t token) {
	w := strings.ToLower(t.text)
	instead, known := absent[w]
	switch {
	case known && instead != "":
		p.fail(t, w+" of tcpdump is not supported", "instead: "+instead)
	case known:
		p.fail(t, w+" of tcpdump is not supported", "")
	case w != t.text && (primitives[w] || protocols[w].number != 0 || etherTypes[w] != 0):
		p.fail(t, "not known", "write "+w)
	}
	p.fail(t, "not known", "")
}
