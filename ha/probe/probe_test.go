package probe

import (
	"strings"
	"testing"
	"time"
)

// TestVerdicts: on LAN 2 (G2) of members a and b something fails; both must say what, in words.
func TestVerdicts(t *testing.T) {
	const l = 1
	for _, c := range []struct {
		name    string
		members int
		hosts   int
		fail    func(*world)
		a, b    string // the verdicts, kind: text
	}{
		{"nothing", 2, 2, func(*world) {}, "ok: ", "ok: "},
		{"nothing, three members, no hosts", 3, 0, func(*world) {}, "ok: ", "ok: "},
		{"a has no carrier", 2, 2, func(w *world) { w.port[1][l].down = true },
			"no-carrier: our side: no carrier here, b has it: our port, our cable or our switch port", "theirs: a's side: no carrier there"},
		{"nobody has carrier", 2, 2, func(w *world) { w.port[1][l].down, w.port[2][l].down = true, true },
			"no-carrier: no carrier here nor at b: the switch is off, or it is one cable", "no-carrier: no carrier here nor at a: the switch is off, or it is one cable"},
		{"a's port is dead", 2, 2, func(w *world) { w.port[1][l].noRX, w.port[1][l].noTX = true, true },
			"ours: our side: nothing at all is received; neighbours answer b, not us", "theirs: a's side: neighbours answer here, a alone is silent and receives nothing at all"},
		{"b's port is dead", 2, 2, func(w *world) { w.port[2][l].noRX, w.port[2][l].noTX = true, true },
			"theirs: b's side: neighbours answer here, b alone is silent and receives nothing at all", "ours: our side: nothing at all is received; neighbours answer a, not us"},
		{"a's port only sends", 2, 2, func(w *world) { w.port[1][l].noRX = true },
			"ours: our side: nothing at all is received; neighbours answer b, not us", "one-way: path one way only: we hear a, a does not hear us; neighbours answer here, not at a"},
		{"a's port only receives", 2, 2, func(w *world) { w.port[1][l].noTX = true },
			"ours: our side: 10.1.0.100 answers b, not us", "one-way: path one way only: a hears us, we do not hear a; neighbours answer here, not at a"},
		{"one direction between them", 2, 2, func(w *world) { w.cut[way{l, 2, 1}] = true },
			"one-way: path one way only: b hears us, we do not hear b; neighbours answer both", "one-way: path one way only: we hear a, a does not hear us; neighbours answer both"},
		{"one direction, nobody to ask", 2, 0, func(w *world) { w.cut[way{l, 2, 1}] = true },
			"one-way: path one way only: b hears us, we do not hear b", "one-way: path one way only: we hear a, a does not hear us"},
		{"the switch is dead", 2, 2, func(w *world) { w.lan[l].dead = true },
			"lan: the LAN: nothing is received here nor at b: the switch, or the cable between", "lan: the LAN: nothing is received here nor at a: the switch, or the cable between"},
		{"a port is dead, nobody to ask", 2, 0, func(w *world) { w.port[1][l].noRX, w.port[1][l].noTX = true, true },
			"lan: the LAN: nothing is received here nor at b: the switch, or the cable between", "lan: the LAN: nothing is received here nor at a: the switch, or the cable between"},
		{"the LAN is split", 2, 2, func(w *world) { w.cut[way{l, 1, 2}], w.cut[way{l, 2, 1}] = true, true },
			"split: between: neighbours answer here and at b, but the two members do not hear each other: the LAN is split",
			"split: between: neighbours answer here and at a, but the two members do not hear each other: the LAN is split"},
		{"heartbeats are filtered", 2, 2, func(w *world) { w.blind[way{l, 1, 2}], w.blind[way{l, 2, 1}] = true, true },
			"filtered: CCP of b arrives, its heartbeats do not", "filtered: CCP of a arrives, its heartbeats do not"},
		{"b is off", 2, 2, func(w *world) { w.dead[2] = true }, "alone: no other member is alive; neighbours answer here", ""},
		{"b is off, nobody to ask", 2, 0, func(w *world) { w.dead[2] = true }, "alone: nothing is received, and no other member is alive to compare with", ""},
		{"three members, a's port is dead, nobody else", 3, 0, func(w *world) { w.port[1][l].noRX, w.port[1][l].noTX = true, true },
			"ours: our side: nothing at all is received; neighbours answer b, not us", "theirs: a's side: neighbours answer here, a alone is silent and receives nothing at all"},
		{"three members, b only receives", 3, 0, func(w *world) { w.port[2][l].noTX = true },
			"one-way: path one way only: b hears us, we do not hear b; neighbours answer here, not at b", "ours: our side: nothing of ours arrives: a, c hear others here, not us"},
		{"three members, b cannot hear", 3, 0, func(w *world) { w.port[2][l].noRX = true },
			"one-way: path one way only: we hear b, b does not hear us; neighbours answer here, not at b", "ours: our side: nothing at all is received; neighbours answer a, not us"},
		{"three members, one is off", 3, 2, func(w *world) { w.dead[3] = true }, "ok: ", "ok: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, c.members, 3, c.hosts)
			w.run(10 * time.Second)
			if len(w.changes) > 0 {
				t.Fatalf("a verdict in a healthy cluster: %+v", w.changes)
			}
			c.fail(w)
			w.run(15 * time.Second)
			for id, want := range map[uint8]string{1: c.a, 2: c.b} {
				v := w.verdict(id, l)
				got := v.Kind.String() + ": " + v.Text
				if want != "" && (want == "ok: " && got != want || !strings.HasPrefix(got, want)) {
					t.Errorf("%c says %q\nwant   %q", 'a'+id-1, got, want)
				}
				// What settles is not taken back.
				w.run(2 * time.Minute)
				if now := w.verdict(id, l); now.Kind != v.Kind || now.Text != v.Text {
					t.Errorf("%c later says %v: %s\nfirst      %v: %s", 'a'+id-1, now.Kind, now.Text, v.Kind, v.Text)
				}
			}
		})
	}
}
