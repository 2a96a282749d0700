package board

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/twinkeep/twinkeep/hal/nic"
)

// tail in place of a piece to replace puts the new text at the end.
const tail = "\x00"

// apu2 is a complete board file.
const apu2 = `name: apu2
description: PC Engines apu2
arch: x86_64
match:
  - vendor: Acme Engines
    product: ax2*
console:
  device: ttyS0
  baud: 115200
watchdog: [sp5100_tco]
ports:
  - name: G1
    place: "0000:00:02.2>0000:01:00.0"
  - {name: G2, place: "0000:00:02.3>0000:02:00.0"}
  - {name: Sync, place: 3/0/0}
`

func TestParse(t *testing.T) {
	got, err := Parse("apu2.yaml", []byte(apu2))
	if err != nil {
		t.Fatal(err)
	}
	want := &Board{
		Name: "apu2", Description: "PC Engines apu2", Arch: "x86_64",
		Match:   []Match{{Vendor: "Acme Engines", Product: "ax2*"}},
		Console: Console{Device: "ttyS0", Baud: 115200}, Watchdog: []string{"sp5100_tco"},
		Ports: []Port{
			{"G1", "0000:00:02.2>0000:01:00.0"}, {"G2", "0000:00:02.3>0000:02:00.0"}, {"Sync", "3/0/0"},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	table, err := got.Table()
	if err != nil {
		t.Fatal(err)
	}
	wantTable := []nic.Port{
		{Name: "G1", Path: nic.Path{{Slot: 2, Port: 2}, {Bus: 1}}},
		{Name: "G2", Path: nic.Path{{Slot: 2, Port: 3}, {Bus: 2}}},
		{Name: "Sync", Path: nic.Path{{Bus: 3}}},
	}
	if diff := cmp.Diff(wantTable, table); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

// Each case replaces one piece of apu2; the error must name place and fault.
func TestParseRefuses(t *testing.T) {
	tests := []struct {
		name, old, new string
		want           string // part of the error, after "board file apu2.yaml"
	}{
		{"unknown key", "arch:", "cpu: 4\narch:", `:3:1: unknown field "cpu"`},
		{"unknown key in a port", "{name: G2,", "{nane: G2,", `:14:6: unknown field "nane"`},
		{"repeated key", "arch:", "name: x\narch:", `:3:1: mapping key "name" already defined at [1:1]`},
		{"wrong type", "baud: 115200", "baud: fast", ":9:9: "},
		{"unknown key, hint", "watchdog:", "watchdogs:", `:10:1: unknown field "watchdogs" (did you mean watchdog?)`},
		{"not YAML", "ports:", "ports: [", ":11:"},
		{"tab", "  baud", "\tbaud", ":9:"},
		{"tag", "[sp5100_tco]", "!x y", `:10:11: "!x": tags, anchors`},
		{"anchor", "name: apu2", "name: &a apu2", `:1:7: "&": tags, anchors`},
		{"alias", "name: apu2", "name: *a", `:1:7: "*": tags, anchors`},
		{"merge key", "name: apu2", "<<: {name: apu2}", `:1:1: "<<": tags, anchors`},
		{"two documents", "name: apu2\n", "name: apu2\n---\nname: b\n", ": has a second YAML document"},
		{"no name", "name: apu2\n", "", `:1:1: name: "": want lower-case`},
		{"bad name", "name: apu2", "name: ../apu2", `:1:7: name: "../apu2": want lower-case`},
		{"no description", "description: PC Engines apu2\n", "", ":1:1: description: is missing"},
		{"bad arch", "arch: x86_64", "arch: amd64", `:3:7: arch: "amd64": want one of x86_64, aarch64`},
		{"matches all", "vendor: Acme Engines\n    product: ax2*", `vendor: "*"`, ":5:"},
		{"console with /dev", "device: ttyS0", "device: /dev/ttyS0", `:8:11: console.device: "/dev/ttyS0" is not a serial port`},
		{"console is a VT", "device: ttyS0", "device: tty1", `:8:11: console.device: "tty1" is not a serial port`},
		{"no console", "console:\n  device: ttyS0\n  baud: 115200\n", "", `:1:1: console.device: "" is not a serial port`},
		{"odd speed", "baud: 115200", "baud: 115201", ":9:9: console.baud: 115201 is not a usual speed"},
		{"bad watchdog", "[sp5100_tco]", "[a b]", `:10:12: watchdog[0]: "a b" is not the name of a kernel module`},
		{"watchdog twice", "[sp5100_tco]", "[a, b, a]", `:10:18: watchdog[2]: "a" is listed twice`},
		{"name twice", "name: Sync", "name: g1", `:15:12: ports[2].name: "g1" is already the name of ports[0]`},
		{"name of 12 characters", "name: Sync", "name: Management12", `:15:12: ports[2].name: port name "Management12" has 12 characters: at most 11`},
		{"name with a dot", "name: Sync", "name: G1.7", `:15:12: ports[2].name: port name "G1.7": want a letter`},
		{"no port name", "name: Sync, ", "", `:15:5: ports[2].name: port name ""`},
		{"no lamp", tail, "leds: [{name: a, shows: status}]\n", ":16:8: leds[0]: want one of class and gpio (class: for a lamp"},
		{"lamp twice", tail, "leds: [{name: a, shows: status, class: x, gpio: {chip: c, line: 1}}]\n", ":16:8: leds[0]: want one of class and gpio"},
		{"lamp shows what", tail, "leds: [{name: a, shows: mood, class: x}]\n", `:16:25: leds[0].shows: "mood": want one of status, active, attention, power (with one`},
		{"lamp with path", tail, "leds: [{name: a, shows: status, class: a/b}]\n", `:16:40: leds[0].class: "a/b" is not the name of a lamp (see ls /sys/class/leds)`},
		{"two names", tail, "leds: [{name: a, shows: status, class: x}, {name: a, shows: active, class: y}]\n", `leds[1].name: "a" is already the name of another one`},
		{"no line", tail, "leds: [{name: a, shows: status, gpio: {chip: c}}]\n", "leds[0].gpio: want one of line and name"},
		{"line out of range", tail, "leds: [{name: a, shows: status, gpio: {chip: c, line: 512}}]\n", ":16:55: leds[0].gpio.line: 512 is not between 0 and 511"},
		{"no chip", tail, "leds: [{name: a, shows: status, gpio: {chip: \"*\", line: 1}}]\n", `leds[0].gpio.chip: "*" is not the label of a GPIO chip (see gpiodetect)`},
		{"line twice", tail, "leds: [{name: a, shows: status, gpio: {chip: c, line: 1}}]\npower_fail: {gpio: {chip: c, line: 1}}\n", ":17:20: power_fail.gpio: c line 1 belongs to leds[0] already"},
		{"pull of an output", tail, "leds: [{name: a, shows: status, gpio: {chip: c, line: 1, pull: up}}]\n", "leds[0].gpio.pull: an output has no pull (remove it)"},
		{"button without input", tail, "buttons: [{name: a, use: power}]\n", ":16:11: buttons[0]: want one of gpio and key"},
		{"button for what", tail, "buttons: [{name: a, use: reset, key: {device: d, code: KEY_POWER}}]\n", `buttons[0].use: "reset": want one of status, power`},
		{"unknown key name", tail, "buttons: [{name: a, use: power, key: {device: d, code: KEY_ANY}}]\n", `buttons[0].key.code: "KEY_ANY" is not a key that is known (KEY_POWER, KEY_RESTART`},
		{"key number", tail, "power_fail: {key: {device: d, code: 768}}\n", `power_fail.key.code: "768" is not a key`},
		{"sensor input", tail, "sensors: [{name: a, chip: c, input: temp1_input}]\n", `:16:37: sensors[0].input: "temp1_input": want temp1 to temp99 (temp1 for temp1_input)`},
		{"sensor limits", tail, "sensors: [{name: a, chip: c, input: temp1, warn: 90, critical: 85}]\n", "sensors[0].warn: 90 is not below critical, 85"},
		{"sensor in millidegrees", tail, "sensors: [{name: a, chip: c, input: temp1, warn: 90000}]\n", "sensors[0].warn: 90000 is not between 20 and 150 (degrees Celsius)"},
		{"no sounder", tail, "buzzer: {device: \"\"}\n", "buzzer.device: is missing"},
		{"module twice", tail, "modules: [a, a]\n", `:16:14: modules[1]: "a" is listed twice`},
		{"kernel option", tail, "kernel: [LEDS_GPIO]\n", `:16:10: kernel[0]: "LEDS_GPIO" is not a kernel option`},
		{"empty source", tail, "sources: [\"\"]\n", ":16:11: sources[0]: is empty"},
		{"bad place", "place: 3/0/0", "place: eth2", `:15:25: ports[2].place: parse PCI place "eth2": want domain:bus:slot.port`},
		{"slot too large", "place: 3/0/0", "place: 3/32/0", `:15:25: ports[2].place: parse PCI place "3/32/0"`},
		{"place twice, both forms", "place: 3/0/0", "place: 2/0/0", `:15:25: ports[2].place: 2/0/0 is already the place of port "G2"`},
		{"place twice, other buses", "place: 3/0/0", "place: 0/2/2>9/0/0", `:15:25: ports[2].place: 0/2/2>9/0/0 is already the place of port "G1"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.Replace(apu2, tt.old, tt.new, 1)
			if tt.old == tail {
				text = apu2 + tt.new
			}
			if text == apu2 {
				t.Fatalf("%q is not in the file", tt.old)
			}
			b, err := Parse("apu2.yaml", []byte(text))
			if err == nil || b != nil || !strings.HasPrefix(err.Error(), "board file apu2.yaml:") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %+v, error\n%v\nwant\nboard file apu2.yaml%s", b, err, tt.want)
			}
		})
	}
	for in, want := range map[string]string{
		"":                             "is empty",
		"# nothing\n":                  "is empty",
		"[]":                           ":1:1:",
		strings.Repeat("#", maxFile+1): "at most 16384",
		strings.Repeat("[", 10_000):    "board file x.yaml",
		strings.Repeat("- ", 10_000):   "board file x.yaml",
	} {
		if _, err := Parse("x.yaml", []byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%.20q): %v, want %q", in, err, want)
		}
	}
}

// All faults are told at once.
func TestParseAllProblems(t *testing.T) {
	text := strings.NewReplacer("name: G1", "name: all", "3/0/0", "3/0", "ttyS0", "COM1").Replace(apu2)
	_, err := Parse("apu2.yaml", []byte(text))
	if err == nil || strings.Count(err.Error(), "board file apu2.yaml:") != 3 {
		t.Errorf("want three problems, got\n%v", err)
	}
}

func TestBuiltIn(t *testing.T) {
	boards, err := All()
	if err != nil {
		t.Fatal(err)
	}
	generic := make(map[string]string)
	for _, b := range boards {
		if got, err := Named(b.Name); err != nil || got != b {
			t.Errorf("Named(%s) = %v, %v", b.Name, got, err)
		}
		if len(b.Match) > 0 {
			continue
		}
		if other, twice := generic[b.Arch]; twice {
			t.Errorf("%s and %s are both generic boards of %s", other, b.Name, b.Arch)
		}
		generic[b.Arch] = b.Name
	}
	_, err = Named("pdp-11")
	if err == nil || err.Error() != `no board "pdp-11": there are auto, apu2, generic-x86_64, protectli-vp2420, qemu-arm64, qemu-panel, qemu-x86_64` {
		t.Errorf("Named(pdp-11): %v", err)
	}
}

func TestChoose(t *testing.T) {
	boards, err := All()
	if err != nil {
		t.Fatal(err)
	}
	own, err := Parse("apu2.yaml", []byte(strings.Replace(apu2, "name: apu2", "name: ax2", 1)))
	if err != nil {
		t.Fatal(err)
	}
	rival := *own
	rival.Name, rival.Match = "ax2-rival", []Match{{Vendor: "acme*"}}
	boards = append(boards, own)

	tests := []struct {
		name, arch string
		dmi        DMI
		boards     []*Board
		want, err  string
	}{
		{"q35", "x86_64", DMI{"QEMU", "Standard PC (Q35 + ICH9, 2009)"}, boards, "qemu-x86_64", ""},
		{"i440fx", "x86_64", DMI{"QEMU", "Standard PC (i440FX + PIIX, 1996)"}, boards, "qemu-x86_64", ""},
		{"case", "x86_64", DMI{"acme engines", "AX2C4"}, boards, "ax2", ""},
		{"other product", "x86_64", DMI{"Acme Engines", "ax1"}, boards, "generic-x86_64", ""},
		{"no DMI", "x86_64", DMI{}, boards, "generic-x86_64", ""},
		{"unknown", "x86_64", DMI{"Dell Inc.", "PowerEdge R640"}, boards, "generic-x86_64", ""},
		{"apu2 of coreboot", "x86_64", DMI{"PC Engines", "PC Engines apu2"}, boards, "apu2", ""},
		{"apu2 of the old BIOS", "x86_64", DMI{"PC Engines", "APU2"}, boards, "apu2", ""},
		{"apu3 has other ports", "x86_64", DMI{"PC Engines", "apu3"}, boards, "generic-x86_64", ""},
		{"Protectli", "x86_64", DMI{"Protectli", "VP2420"}, boards, "protectli-vp2420", ""},
		{"panel", "x86_64", DMI{"QEMU", "Twinkeep panel"}, boards, "qemu-panel", ""},
		{"ARM without DMI", "aarch64", DMI{}, boards, "qemu-arm64", ""},
		{"other architecture", "riscv64", DMI{"QEMU", "Standard PC (Q35 + ICH9, 2009)"}, boards, "",
			`no board for machine "QEMU" "Standard PC (Q35 + ICH9, 2009)" (riscv64)`},
		{"two match", "x86_64", DMI{"Acme Engines", "ax2"}, append(boards, &rival), "", "matches the boards ax2 and ax2-rival"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := choose(tt.boards, tt.arch, tt.dmi)
			switch {
			case tt.err != "":
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
			case err != nil:
				t.Error(err)
			case b.Name != tt.want:
				t.Errorf("chose %s, want %s", b.Name, tt.want)
			}
		})
	}
	if b, err := Select(DMI{}); arch() == "x86_64" && (err != nil || b.Name != "generic-x86_64") {
		t.Errorf("Select: %v, %v", b, err)
	}
}

func TestGlob(t *testing.T) {
	for _, tt := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "anything", true}, {"*", "", true}, {"abc", "ABC", true}, {"abc", "abcd", false},
		{"a*", "abc", true}, {"*c", "abc", true}, {"a*c", "a/c", true}, {"a*c", "ac", true}, {"a*a", "a", false},
		{"*b*", "abc", true}, {"*x*", "abc", false}, {"a*b*c", "a-b-c", true}, {"a*b*c", "a-c-b", false}, {"**", "x", true},
	} {
		if got := glob(tt.pattern, tt.s); got != tt.want {
			t.Errorf("glob(%q, %q) = %t", tt.pattern, tt.s, got)
		}
	}
}

func TestReadDMI(t *testing.T) {
	root := t.TempDir()
	if dmi, err := ReadDMI(root); err != nil || dmi != (DMI{}) {
		t.Errorf("no DMI: %+v, %v", dmi, err)
	}
	dir := filepath.Join(root, "class/dmi/id")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"sys_vendor": "QEMU\n", "product_name": "Standard PC (Q35 + ICH9, 2009)\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dmi, err := ReadDMI(root)
	if want := (DMI{"QEMU", "Standard PC (Q35 + ICH9, 2009)"}); err != nil || dmi != want {
		t.Errorf("got %+v, %v; want %+v", dmi, err, want)
	}
	if err := os.Remove(filepath.Join(dir, "sys_vendor")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "sys_vendor"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadDMI(root); err == nil || !strings.Contains(err.Error(), "read DMI") {
		t.Errorf("unreadable: %v", err)
	}
}

// The published schema is that of the model: write it with go run ./firmware/twinkeep board schema.
func TestSchema(t *testing.T) {
	published, err := os.ReadFile("../docs/board.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(published), string(Schema())); diff != "" {
		t.Errorf("docs/board.schema.json is not the model's (-file +model):\n%s", diff)
	}
}

// Every built-in board says whatever it needs, and only what exists.
func TestBoardParts(t *testing.T) {
	boards, err := All()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range boards {
		for _, in := range append(inputs(b.Buttons), b.PowerFail) {
			if in == nil || in.Key == nil {
				continue
			}
			if code, ok := in.Key.KeyCode(); !ok || code == 0 {
				t.Errorf("%s: key %+v", b.Name, in.Key)
			}
			if !slices.Contains(b.Modules, "evdev") {
				t.Errorf("%s reads keys and does not load evdev", b.Name)
			}
		}
		if len(b.Match) > 0 && b.Arch == "x86_64" && b.Match[0].Vendor != "QEMU" && len(b.Sources) == 0 {
			t.Errorf("%s names no source", b.Name)
		}
	}
}

func inputs(buttons []Button) (out []*Input) {
	for i := range buttons {
		out = append(out, &buttons[i].Input)
	}
	return out
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(apu2))
	f.Add([]byte("ports: [{name: &a G1, place: *a}]"))
	f.Add([]byte("<<: {name: x}\nconsole: !!binary aGk="))
	f.Add([]byte("ports:\n- "))
	for _, name := range []string{"apu2.yaml", "qemu-panel.yaml", "qemu-arm64.yaml"} {
		data, err := files.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := Parse("fuzz.yaml", data)
		if (b == nil) == (err == nil) {
			t.Fatalf("board %v, error %v", b, err)
		}
		if err != nil {
			return
		}
		if table, err := b.Table(); err != nil || len(table) != len(b.Ports) {
			t.Fatalf("table %v, error %v", table, err)
		}
	})
}

func TestRunning(t *testing.T) {
	if arch() != "x86_64" {
		t.Skip("chooses among the boards of x86-64")
	}
	apu := DMI{Vendor: "PC Engines", Product: "apu2"}
	for _, tt := range []struct{ cmdline, node, want string }{
		{"console=ttyS0 quiet", "", "apu2"},
		{"console=ttyS0 quiet", "auto", "apu2"},
		{"", "qemu-panel", "qemu-panel"},
		{"twinkeep.board=generic-x86_64 quiet", "qemu-panel", "generic-x86_64"},
		{"twinkeep.board=", "qemu-panel", "qemu-panel"},
		{"twinkeep.board=auto", "qemu-panel", "apu2"},
		{"twinkeep.board=none", "qemu-panel", ""},
	} {
		b, err := Running(tt.cmdline, tt.node, apu)
		if (err == nil) != (tt.want != "") || err == nil && b.Name != tt.want {
			t.Errorf("%q, %q: %v, %v; want %q", tt.cmdline, tt.node, b, err, tt.want)
		}
	}
}
