package ruleset

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"

	"github.com/twinkeep/twinkeep/firmware/ruleset/rules"
)

// Table is the name of the nftables table, family inet.
const Table = "twinkeep"

// Ruleset is the wanted content of the table. Each of its rules knows both its text and its kernel form, so what the
// console shows is what Apply installs.
type Ruleset struct {
	counters []string // named counters, one for each rule of the policy that is not an element of a set
	limits   []limit
	helpers  []rules.HelperProtocol
	sets     []*set
	chains   []*chain
	fast     []string // devices of the flowtable; none: no flowtable
	before   Counters // what the counters begin with
}

// limit is a named limit that several kernel rules share.
type limit struct {
	name, unit  string
	rate, burst uint64
}

// chain is a chain of rules; a base chain has a hook.
type chain struct {
	name  string
	base  *base
	rules []rule
}

// base is what makes a chain a base chain.
type base struct {
	kind     nftables.ChainType
	hook     *nftables.ChainHook
	priority *nftables.ChainPriority
	policy   nftables.ChainPolicy
	header   string // as nft writes it
}

// rule is what a packet must match, and the verdict.
type rule struct {
	id    string // of the policy's rule, for messages
	terms []term
}

// String is the rule as nft writes it.
func (r rule) String() string {
	words := make([]string, len(r.terms))
	for i, t := range r.terms {
		words[i] = t.text
	}
	return strings.Join(words, " ")
}

// flowtable is the name of the fast path.
const flowtable = "fast"

// String renders the table so that it can be read, and loaded with nft -f.
func (r *Ruleset) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n", Table)
	for _, c := range r.counters {
		fmt.Fprintf(&b, "\tcounter %s {\n\t}\n\n", c)
	}
	for _, l := range r.limits {
		fmt.Fprintf(&b, "\tlimit %s {\n\t\trate %d/%s burst %d packets\n\t}\n\n", l.name, l.rate, l.unit, l.burst)
	}
	for _, p := range r.helpers {
		proto, _ := p.Transport()
		fmt.Fprintf(&b, "\tct helper %s {\n\t\ttype \"%s\" protocol %s\n\t\tl3proto inet\n\t}\n\n", p, p, protoName(proto))
	}
	for _, s := range r.sets {
		s.write(&b)
	}
	if len(r.fast) > 0 {
		fmt.Fprintf(&b, "\tflowtable %s {\n\t\thook ingress priority filter\n\t\tdevices = { %s }\n\t}\n\n", flowtable, strings.Join(r.fast, ", "))
	}
	for i, c := range r.chains {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "\tchain %s {\n", c.name)
		if c.base != nil {
			fmt.Fprintf(&b, "\t\t%s\n", c.base.header)
		}
		for _, rule := range c.rules {
			fmt.Fprintf(&b, "\t\t%s\n", rule)
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

// Size counts what is installed, for logs and benches.
type Size struct{ Chains, Rules, Sets, Elements int }

// Size of the ruleset.
func (r *Ruleset) Size() Size {
	s := Size{Chains: len(r.chains), Sets: len(r.sets)}
	for _, c := range r.chains {
		s.Rules += len(c.rules)
	}
	for _, set := range r.sets {
		s.Elements += len(set.elements)
	}
	return s
}

// withoutFast is the same ruleset for a kernel that has no flowtables.
func (r *Ruleset) withoutFast() *Ruleset {
	slow := *r
	slow.fast = nil
	slow.chains = nil
	for _, c := range r.chains {
		copied := *c
		copied.rules = slices.DeleteFunc(slices.Clone(c.rules), func(r rule) bool { return r.id == fastRule })
		slow.chains = append(slow.chains, &copied)
	}
	return &slow
}
