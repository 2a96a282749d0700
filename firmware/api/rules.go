package api

import "context"

// RuleCounts is gatewayd's GET /v1/rules: what each rule in the kernel of this member has matched.
type RuleCounts struct {
	Member string      `json:"member"`
	Rules  []RuleCount `json:"rules"` // by name
	// Left is how many rules beyond MaxRules there are; those that matched are listed before all others.
	Left int `json:"left_off,omitempty"`
}

// MaxRules is the most rules of a list.
const MaxRules = 10000

// RuleCount is what one rule has matched since it is in force; a reload of the policy goes on counting.
type RuleCount struct {
	// Rule is its name as `policy explain` says it: filter/NAME, nat/NAME, management/NAME, helper/NAME, ping/ZONE, spoofed/ZONE, or dropped/CHAIN for what no
	// rule let pass.
	Rule string `json:"rule"`
	// Packets: for rules of the filter and of NAT the first packet of a connection counts, so this is connections; for what was dropped it is packets.
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"` // of those packets
}

// Rules is what the rules have matched.
func (c *Client) Rules(ctx context.Context) (RuleCounts, error) {
	return get[RuleCounts](ctx, c, GatewaydSocket, "/v1/rules")
}
