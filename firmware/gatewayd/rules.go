package gatewayd

import (
	"cmp"
	"slices"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/routes"
	"github.com/twinkeep/twinkeep/firmware/ruleset"
)

// ruleCounts is what the rules in the kernel have matched.
func (d *daemon) ruleCounts() (api.RuleCounts, error) {
	counters, err := ruleset.ReadCounters()
	if err != nil {
		return api.RuleCounts{}, err
	}
	out := api.RuleCounts{Member: routes.Self(d.inForce()), Rules: []api.RuleCount{}}
	for name, n := range counters.ByRule() {
		out.Rules = append(out.Rules, api.RuleCount{Rule: name, Packets: n.Packets, Bytes: n.Bytes})
	}
	byName := func(a, b api.RuleCount) int { return cmp.Compare(a.Rule, b.Rule) }
	if left := len(out.Rules) - api.MaxRules; left > 0 {
		slices.SortFunc(out.Rules, func(a, b api.RuleCount) int { return cmp.Or(cmp.Compare(b.Packets, a.Packets), byName(a, b)) })
		out.Rules, out.Left = out.Rules[:api.MaxRules], left
	}
	slices.SortFunc(out.Rules, byName)
	return out, nil
}
