package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/firmware/policy"
	"github.com/twinkeep/twinkeep/firmware/ruleset"
	"github.com/twinkeep/twinkeep/tools/bench/stat"
)

// kind is one sort of entries, as a policy and as an administrator would give it to nft.
type kind struct {
	name   string
	policy func(b *strings.Builder, n int)
	asMap  func(b *strings.Builder, n int)
	asList func(b *strings.Builder, n int)
}

const header = `version: 1
name: bench
cluster: {id: 9, members: [{id: 1, name: gw-a}, {id: 2, name: gw-b}]}
zones: [{name: lan}, {name: wan}]
interfaces:
  - {name: G1, zone: lan, addresses: {1: 10.0.0.2/8, 2: 10.0.0.3/8}, vips: [10.0.0.1]}
  - {name: G2, zone: wan, addresses: {1: 192.0.2.2/24, 2: 192.0.2.3/24}, vips: [192.0.2.1], routed: [100.64.0.0/10]}
  - {name: G3, sync: true, addresses: {1: 169.254.77.1/30, 2: 169.254.77.2/30}}
routes: [{to: 0.0.0.0/0, via: 192.0.2.254}]
management: [{name: admin, from: [lan], service: [ssh]}]
`

func inner(i int) string { return fmt.Sprintf("10.%d.%d.%d", 1+i>>16, i>>8&255, i&255) }
func outer(i int) string { return fmt.Sprintf("100.%d.%d.%d", 64+i>>16, i>>8&255, i&255) }

func lines(b *strings.Builder, n int, format func(i int) string) {
	for i := range n {
		b.WriteString(format(i))
		b.WriteByte('\n')
	}
}

func elements(b *strings.Builder, n int, format func(i int) string) {
	b.WriteString("elements = { ")
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(format(i))
	}
	b.WriteString(" }\n")
}

var kinds = []kind{
	{
		"snat",
		func(b *strings.Builder, n int) {
			b.WriteString("nat:\n")
			lines(b, n, func(i int) string {
				return fmt.Sprintf("  - {name: n%d, type: snat, from: [lan], out: [G2], source: [%s], to: %s}", i, inner(i), outer(i))
			})
		},
		func(b *strings.Builder, n int) {
			b.WriteString("table ip bench {\nmap m {\ntype ipv4_addr : ipv4_addr\n")
			elements(b, n, func(i int) string { return inner(i) + " : " + outer(i) })
			b.WriteString("}\nchain post {\ntype nat hook postrouting priority srcnat\noifname \"G2\" snat to ip saddr map @m\n}\n}\n")
		},
		func(b *strings.Builder, n int) {
			b.WriteString("table ip bench {\nchain post {\ntype nat hook postrouting priority srcnat\n")
			lines(b, n, func(i int) string { return fmt.Sprintf("oifname \"G2\" ip saddr %s snat to %s", inner(i), outer(i)) })
			b.WriteString("}\n}\n")
		},
	}, {
		"dnat",
		func(b *strings.Builder, n int) {
			b.WriteString("nat:\n")
			lines(b, n, func(i int) string {
				return fmt.Sprintf("  - {name: n%d, type: dnat, from: [wan], destination: [%s], service: [tcp/443], to: %s:8443}", i, outer(i), inner(i))
			})
		},
		func(b *strings.Builder, n int) {
			b.WriteString("table ip bench {\nmap m {\ntype ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service\n")
			elements(b, n, func(i int) string { return outer(i) + " . tcp . 443 : " + inner(i) + " . 8443" })
			b.WriteString("}\nchain pre {\ntype nat hook prerouting priority dstnat\niifname \"G2\" dnat to ip daddr . meta l4proto . th dport map @m\n}\n}\n")
		},
		func(b *strings.Builder, n int) {
			b.WriteString("table ip bench {\nchain pre {\ntype nat hook prerouting priority dstnat\n")
			lines(b, n, func(i int) string {
				return fmt.Sprintf("iifname \"G2\" ip daddr %s tcp dport 443 dnat to %s:8443", outer(i), inner(i))
			})
			b.WriteString("}\n}\n")
		},
	}, {
		"filter",
		func(b *strings.Builder, n int) {
			b.WriteString("filter:\n  rules:\n")
			lines(b, n, func(i int) string {
				return fmt.Sprintf("    - {name: r%d, from: [lan], to: [wan], source: [%s], destination: [198.51.100.7], service: [tcp/443], action: accept}", i, inner(i))
			})
		},
		func(b *strings.Builder, n int) {
			b.WriteString("table ip bench {\nset s {\ntype ipv4_addr . ipv4_addr . inet_proto . inet_service\n")
			elements(b, n, func(i int) string { return inner(i) + " . 198.51.100.7 . tcp . 443" })
			b.WriteString("}\nchain forward {\ntype filter hook forward priority filter; policy drop;\nip saddr . ip daddr . meta l4proto . th dport @s accept\n}\n}\n")
		},
		func(b *strings.Builder, n int) {
			b.WriteString("table ip bench {\nchain forward {\ntype filter hook forward priority filter; policy drop;\n")
			lines(b, n, func(i int) string {
				return fmt.Sprintf("ip saddr %s ip daddr 198.51.100.7 tcp dport 443 accept", inner(i))
			})
			b.WriteString("}\n}\n")
		},
	},
}

func timed(into *[]float64, f func() error) error {
	start := time.Now()
	err := f()
	*into = append(*into, float64(time.Since(start).Microseconds())/1000)
	return err
}

// parsed gives the ruleset of a policy text, and how long parsing and compiling took.
func parsed(text string, parse, compile *[]float64) (r *ruleset.Ruleset, err error) {
	var p *policy.Policy
	if err := timed(parse, func() (err error) { p, _, err = policy.Parse("bench.yaml", []byte(text)); return err }); err != nil {
		return nil, err
	}
	m, err := p.ForMember(1, nil)
	if err != nil {
		return nil, err
	}
	return r, timed(compile, func() error { r = ruleset.Compile(m.Rules); return nil })
}

func withoutFlowtable(text string) string {
	if !strings.Contains(text, "filter:\n") {
		text += "filter:\n"
	}
	return strings.Replace(text, "filter:\n", "filter:\n  flowtable: false\n", 1)
}

// load measures one size of one kind and prints its row.
func load(k kind, n, runs int) error {
	dir, err := os.MkdirTemp("", "bench-ruleset")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var text, one, asMap, asList strings.Builder
	text.WriteString(header)
	k.policy(&text, n)
	one.WriteString(header)
	k.policy(&one, n-1)
	k.asMap(&asMap, n)
	k.asList(&asList, n)
	var parse, compile, again, cold, changed, nftMap, nftList, nftText, none []float64
	// The text is for every kernel: nft -f has no way to go on without a flowtable.
	whole, fewer := withoutFlowtable(text.String()), withoutFlowtable(one.String())
	less, err := parsed(fewer, &none, &none)
	if err != nil {
		return err
	}
	files := map[string]string{"map": asMap.String(), "list": asList.String()}
	for i := range runs {
		r, err := parsed(whole, &parse, &compile)
		if err != nil {
			return err
		}
		if i == 0 {
			files["text"] = r.String()
			for name, content := range files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
					return err
				}
			}
		}
		ns, err := newNamespace("load")
		if err != nil {
			return err
		}
		err = ns.do(func() error {
			for _, step := range []struct {
				into *[]float64
				do   *ruleset.Ruleset
			}{{&cold, r}, {&again, r}, {&changed, less}} {
				if err := timed(step.into, step.do.Apply); err != nil {
					return err
				}
			}
			return nil
		})
		ns.remove()
		if err != nil {
			return err
		}
		for name, into := range map[string]*[]float64{"map": &nftMap, "list": &nftList, "text": &nftText} {
			ns, err := newNamespace("nft")
			if err != nil {
				return err
			}
			err = timed(into, func() error { return ns.run("nft", "-f", filepath.Join(dir, name)) })
			ns.remove()
			if err != nil {
				return err
			}
		}
	}
	fmt.Printf("| %d | %s | %d | %s | %s | %s | %s | %s | %s | %s | %s |\n", n, k.name, runs, stat.Of(cold), stat.Of(again), stat.Of(changed),
		stat.Of(nftMap), stat.Of(nftList), stat.Of(nftText), stat.Of(compile), stat.Of(parse))
	return nil
}
