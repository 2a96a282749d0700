package ruleset

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/firmware/ruleset/rules"
)

// helperChain attaches the kernel's helpers; nil when there are none. It comes behind conntrack (-200) and before DNAT
// (-100): NAT makes room for changed lengths (sequence adjustment) only in connections that have their helper by then.
// What a helper expects is *related*, which every base chain of the filter lets through.
func (c *compiler) helperChain() *chain {
	if len(c.Helpers) == 0 {
		return nil
	}
	ch := &chain{name: "helpers", base: &base{
		kind: nftables.ChainTypeFilter, hook: nftables.ChainHookPrerouting, priority: nftables.ChainPriorityMangle, policy: nftables.ChainPolicyAccept,
		header: "type filter hook prerouting priority mangle; policy accept;",
	}}
	for i := range c.Helpers {
		h := &c.Helpers[i]
		devices := c.zoneDevices(h.From)
		if len(devices) == 0 {
			continue
		}
		if !slices.Contains(c.out.helpers, h.Protocol) {
			c.out.helpers = append(c.out.helpers, h.Protocol)
		}
		in := fromSet(c.deviceSet(devices))
		proto, _ := h.Protocol.Transport()
		m := rules.Match{Src: h.Src, Dst: h.Dst, Services: []rules.Service{{Proto: proto, First: h.Port, Last: h.Port, Type: rules.AnyType}}}
		for _, alt := range c.alternatives(&m) {
			ch.add(h.ID, slices.Concat([]term{in}, alt.terms,
				[]term{ctState("new", expr.CtStateBitNEW), c.count(h.ID), helper(h.Protocol), accept()})...)
		}
	}
	slices.Sort(c.out.helpers)
	return ch
}

// helper attaches the helper object of a protocol.
func helper(p rules.HelperProtocol) term {
	return term{fmt.Sprintf("ct helper set %q", p), []expr.Any{&expr.Objref{Type: unix.NFT_OBJECT_CT_HELPER, Name: string(p)}}}
}

// helperObject is the kernel's object of a protocol, for both families.
func helperObject(table *nftables.Table, p rules.HelperProtocol) *nftables.NamedObj {
	proto, _ := p.Transport()
	return &nftables.NamedObj{Table: table, Name: string(p), Type: nftables.ObjTypeCtHelper, Obj: &expr.CtHelper{
		Name: string(p), L3Proto: unix.NFPROTO_INET, L4Proto: proto,
	}}
}
