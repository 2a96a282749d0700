package diff

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/twinkeep/twinkeep/firmware/policy"
)

func parse(t *testing.T, text string) *policy.Policy {
	t.Helper()
	p, _, err := policy.Parse("policy.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestOf(t *testing.T) {
	data, err := os.ReadFile("../testdata/example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	old := string(data)
	if got := Of(parse(t, old), parse(t, old)); len(got) > 0 {
		t.Errorf("a policy differs from itself: %v", got)
	}
	changed := strings.NewReplacer(
		"lease: 40ms, dead: 60ms", "lease: 50ms, dead: 90ms",
		"vips: [10.2.0.1]", "vips: [10.2.0.9, 10.2.0.10]",
		"addresses: {1: 192.0.2.2/24, 2: 192.0.2.3/24}", "addresses: {1: 192.0.2.2/24, 2: 192.0.2.4/24}",
		"  - {to: 10.9.0.0/16, via: 10.1.0.254}\n", "  - {to: 10.9.0.0/16, via: 10.1.0.253}\n  - {to: 10.8.0.0/16, via: 10.1.0.254}\n",
		"admins: [10.1.0.16/28]", "admins: [10.1.0.16/28, 10.1.0.5]",
		"hairpin: true}", "hairpin: false}",
		"  - {name: visitors, type: snat, from: [guests], out: [G2], to: 203.0.113.2-203.0.113.5, persistent: true}\n", "",
		"    - {name: no-telnet, from: [lan, guests], service: [tcp/23], action: reject, log: true}\n", "",
		"    - {name: servers-out, from: [dmz], to: [wan], source: [servers], service: [web, name-service], action: accept}\n",
		"    - {name: servers-out, from: [dmz], to: [wan], source: [servers, 10.2.0.50], action: accept, limit: {rate: 9/second}}\n"+
			"    - {name: no-telnet, from: [lan, guests], service: [tcp/23], action: reject, log: true}\n",
		"lock: {after: failover, resume: manual}", "witness: {address: 198.51.100.9}",
		"ssh: {port: 22}", "ssh: {port: 2222}",
	).Replace(old)
	var got []string
	for _, c := range Of(parse(t, old), parse(t, changed)) {
		got = append(got, c.String())
	}
	want := []string{
		"~ cluster timing lease: 40ms → 50ms",
		"~ cluster timing dead: 60ms → 90ms",
		"~ cluster lock after: failover → never",
		"+ cluster witness: address 198.51.100.9",
		"~ interface G2 addresses 2: 192.0.2.3/24 → 192.0.2.4/24",
		"~ interface G4 vips: - 10.2.0.1, + 10.2.0.9, + 10.2.0.10",
		"~ route to 10.9.0.0/16 via: 10.1.0.254 → 10.1.0.253",
		"+ route to 10.8.0.0/16: to 10.8.0.0/16, via 10.1.0.254",
		"~ addresses admins: + 10.1.0.5",
		"~ nat web hairpin: true → false",
		"- nat visitors: type snat, from [guests], out [G2], to 203.0.113.2-203.0.113.5, persistent true",
		"~ filter rule servers-out source: + 10.2.0.50",
		"~ filter rule servers-out service: [web, name-service] → nothing",
		"+ filter rule servers-out limit: rate 9/second",
		"> filter rule no-telnet: behind servers-out",
		"~ services ssh port: 22 → 2222",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
