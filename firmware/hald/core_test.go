package hald

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/board"
	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/hal/led"
	"github.com/twinkeep/twinkeep/hal/sensor"
)

func testBoard(t *testing.T) *board.Board {
	t.Helper()
	b, err := board.Parse("test.yaml", []byte(`name: test
description: d
arch: x86_64
console: {device: ttyS0, baud: 115200}
modules: [evdev]
leds:
  - {name: one, shows: status, class: one}
  - {name: two, shows: active, class: two}
buttons:
  - {name: S1, use: status, key: {device: d, code: KEY_RESTART}}
  - {name: power, use: power, key: {device: p, code: KEY_POWER}}
sensors:
  - {name: CPU, chip: k10temp, input: temp1, warn: 80, critical: 95, critical_device: true}
  - {name: disk, chip: nvme, input: temp1, optional: true}
power_fail: {key: {device: f, code: "140"}}
`))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// in is a member in a state, long after the start.
func in(state string) Facts {
	return Facts{Uptime: time.Hour, Answers: true, Applied: true, HA: member.Status{ClusterID: 7, Member: 1, State: state}}
}

// does lists what orders do, without what they say and sound.
func does(orders []Order) (out []string) {
	for _, o := range orders {
		if o.Do != Say && o.Do != Sound {
			out = append(out, strings.TrimSpace(string(o.Do)+" "+o.Device))
		}
	}
	return out
}

func TestJudge(t *testing.T) {
	young := in("INIT")
	young.Uptime = 5 * time.Second
	silent := Facts{Uptime: time.Hour}
	locked, trial, bad, sick, lost, alone, unapplied := in("DOWN"), in("STANDBY"), in("DOWN"), in("STANDBY"), in("ACTIVE"), in("DOWN"), in("DOWN")
	locked.Locked, trial.Upgrading, bad.HA.ConfigError = "the term has passed", "the image is on trial", "line 3: bad"
	sick.HA.Problems = []string{"interface G1: no carrier", "temperature: CPU 99 degrees"}
	lost.HA.Peers = []member.PeerStatus{{Name: "gw-b", State: "LOST"}}
	alone.HA.ClusterID, unapplied.HA.ClusterID, unapplied.Applied = 0, 0, false
	full := in("STANDBY")
	full.Disk = "the data partition is full"
	lostYoung := lost
	lostYoung.Uptime = time.Minute
	for _, tt := range []struct {
		name    string
		f       Facts
		parts   []string
		want    led.Status
		active  bool
		reasons string
	}{
		{"just started", Facts{Uptime: time.Second}, nil, led.Booting, false, ""},
		{"on its way", young, nil, led.Booting, false, ""},
		{"had is dead", silent, nil, led.Attention, false, "had does not answer"},
		{"active", in("ACTIVE"), nil, led.Active, true, ""},
		{"full disk", full, nil, led.Attention, false, "the data partition is full"},
		{"standby", in("STANDBY"), nil, led.Standby, false, ""},
		{"witness", in("WITNESS"), nil, led.Standby, false, ""},
		{"ready", in("READY"), nil, led.Booting, false, ""},
		{"sick and alone", in("ACTIVE!"), nil, led.Attention, true, "the member is ACTIVE!"},
		{"down", in("DOWN"), nil, led.Attention, false, "the member is DOWN"},
		{"bad node file", bad, nil, led.Attention, false, "line 3: bad"},
		{"a device complains", sick, nil, led.Attention, false, "interface G1: no carrier"},
		{"the peer is lost", lost, nil, led.Attention, true, "gw-b is lost"},
		{"the peer is not there yet", lostYoung, nil, led.Active, true, ""},
		{"locked", locked, []string{"hot"}, led.Lockdown, false, "the term has passed"},
		{"on trial", trial, []string{"hot"}, led.Upgrading, false, "the image is on trial"},
		{"hot", in("ACTIVE"), []string{"hot"}, led.Attention, true, "hot"},
		{"standalone", alone, nil, led.Active, true, ""},
		{"standalone without a good file", unapplied, nil, led.Attention, false, "the node file is not in force"},
	} {
		s, reasons := judge(tt.f, tt.parts)
		if s != tt.want || tt.f.active() != tt.active || strings.Join(reasons, "; ") != tt.reasons {
			t.Errorf("%s: %v, active %t, %q; want %v, %t, %q", tt.name, s, tt.f.active(), reasons, tt.want, tt.active, tt.reasons)
		}
	}
}

// TestDiskIsTold: what is wrong with the disk is said whatever the case shows already.
func TestDiskIsTold(t *testing.T) {
	c := newCore(testBoard(t))
	f := in("ACTIVE")
	f.HA.Peers = []member.PeerStatus{{Name: "gw-b", State: "LOST"}}
	c.learn(f)
	for _, tt := range []struct{ disk, want string }{
		{"the data partition is full", "the data partition is full"}, {"the data partition is full", ""},
		{"the data partition cannot be written", "the data partition cannot be written"}, {"", "the data partition can be written and has room again"},
	} {
		f.Disk = tt.disk
		var said []string
		for _, o := range c.learn(f) {
			if o.Do == Say {
				said = append(said, o.Text)
			}
		}
		if got := strings.Join(said, "; "); got != tt.want {
			t.Errorf("%q: said %q, want %q", tt.disk, got, tt.want)
		}
	}
}

func TestLampsFollowTheRole(t *testing.T) {
	c := newCore(testBoard(t))
	if p := c.lamp(led.ShowsStatus); !p.Equal(led.Show(led.Booting, false, led.ShowsStatus)) {
		t.Errorf("at the start: %v", p)
	}
	c.reading(0, sensor.Reading{Celsius: 40}, nil)
	c.learn(in("STANDBY"))
	orders := c.learn(in("ACTIVE"))
	if p := c.lamp(led.ShowsStatus); !p.Equal(led.On) || !c.lamp(led.ShowsActive).Equal(led.On) {
		t.Errorf("active: %v", p)
	}
	if len(orders) != 1 || orders[0].Text != "the case shows active" || orders[0].Bad {
		t.Errorf("%+v", orders)
	}
	if again := c.learn(in("ACTIVE")); len(again) != 0 {
		t.Errorf("the same again: %+v", again)
	}
}

func TestButtons(t *testing.T) {
	c := newCore(testBoard(t))
	c.learn(in("STANDBY"))
	c.pressed(1*time.Second, "S1", true)
	c.pressed(1200*time.Millisecond, "S1", false)
	if !c.lamp(led.ShowsStatus).Equal(led.Flashes(2)) || len(c.lamp(led.ShowsActive)) != 0 {
		t.Errorf("short press: %v", c.lamp(led.ShowsStatus))
	}
	at, ok := c.deadline()
	if !ok || at != 1200*time.Millisecond+roleTime {
		t.Fatalf("deadline %v, %t", at, ok)
	}
	c.tick(at)
	if c.panel().Showing != "" {
		t.Error("the role is shown for ever")
	}
	// A reset.
	c.pressed(10*time.Second, "S1", true)
	if got := does(c.tick(15 * time.Second)); got != nil || c.panel().Showing != "reset" || !c.lamp(led.ShowsActive).Equal(led.Confirm) {
		t.Errorf("%v, showing %q", got, c.panel().Showing)
	}
	c.pressed(16*time.Second, "S1", false)
	c.pressed(18*time.Second, "S1", true)
	if got := does(c.tick(21 * time.Second)); !slices.Equal(got, []string{"factory reset"}) || !c.lamp(led.ShowsStatus).Equal(led.Done) {
		t.Errorf("confirmed: %v", got)
	}
	// A reset that does not come about is not shown as one.
	c.notReset(errors.New("the disk cannot be written"))
	if p := c.lamp(led.ShowsStatus); p.Equal(led.Done) || c.status != led.Attention || !strings.Contains(strings.Join(c.reasons, "; "), "the factory reset failed: the disk cannot be written") {
		t.Errorf("failed: %v, %v, %q", p, c.status, c.reasons)
	}
	c.pressed(29*time.Second, "S1", false)
	c.pressed(30*time.Second, "S1", true)
	c.tick(35 * time.Second)
	c.pressed(36*time.Second, "S1", false)
	c.pressed(37*time.Second, "S1", true)
	if got := does(c.tick(40 * time.Second)); !slices.Equal(got, []string{"factory reset"}) || !c.lamp(led.ShowsStatus).Equal(led.Done) {
		t.Errorf("confirmed once more: %v", got)
	}
	c = newCore(testBoard(t))
	if got := does(c.pressed(0, "power", true)); !slices.Equal(got, []string{"power off"}) {
		t.Errorf("power: %v", got)
	}
	if got := c.pressed(time.Second, "power", false); got != nil {
		t.Errorf("power released: %v", got)
	}
	if got := c.pressed(0, "no such button", true); got != nil {
		t.Error(got)
	}
	if p := c.panel().Buttons; p[1].Presses != 1 || p[0].State != "idle" {
		t.Errorf("%+v", p)
	}
}

func TestTemperature(t *testing.T) {
	c := newCore(testBoard(t))
	c.learn(in("ACTIVE"))
	read := func(celsius float64) []string { return does(c.reading(0, sensor.Reading{Celsius: celsius}, nil)) }
	if got := read(85); got != nil || c.status != led.Attention {
		t.Errorf("warm: %v, %v", got, c.status)
	}
	read(96)
	if got := read(96); !slices.Equal(got, []string{"report temperature"}) {
		t.Errorf("critical: %v", got)
	}
	// had forgets when it starts anew, and is told again; once it knows, no more.
	if got := does(c.learn(in("STANDBY"))); !slices.Equal(got, []string{"report temperature"}) {
		t.Errorf("forgotten: %v", got)
	}
	knows := in("STANDBY")
	knows.HA.Devices = []member.DeviceStatus{{Name: api.TemperatureDevice, State: "problem"}}
	if got := does(c.learn(knows)); got != nil {
		t.Errorf("known: %v", got)
	}
	if got := read(70); !slices.Equal(got, []string{"clear temperature"}) {
		t.Errorf("cool again: %v", got)
	}
	// A hald that starts anew clears what an earlier one left.
	c = newCore(testBoard(t))
	if got := does(c.learn(knows)); !slices.Equal(got, []string{"clear temperature"}) {
		t.Errorf("left over: %v", got)
	}
	c.reading(0, sensor.Reading{}, sensor.ErrAbsent)
	c.reading(1, sensor.Reading{}, sensor.ErrAbsent)
	c.learn(in("ACTIVE"))
	if s := strings.Join(c.reasons, "; "); c.status != led.Attention || !strings.HasPrefix(s, "CPU: ") || strings.Contains(s, "disk") {
		t.Errorf("absent: %v, %s", c.status, s)
	}
}

func TestPowerFail(t *testing.T) {
	c := newCore(testBoard(t))
	c.learn(in("ACTIVE"))
	if got := does(c.failing(time.Second, true)); !slices.Equal(got, []string{"give away", "report power"}) {
		t.Errorf("failing: %v", got)
	}
	if got := does(c.failing(2*time.Second, false)); got != nil {
		t.Errorf("a dip: %v", got)
	}
	at, ok := c.deadline()
	if !ok {
		t.Fatal("nothing brings the supply back")
	}
	if got := does(c.tick(at)); !slices.Equal(got, []string{"clear power"}) || c.supply.Failing() {
		t.Errorf("back: %v", got)
	}
	c = newCore(testBoard(t))
	c.learn(in("STANDBY"))
	if got := does(c.failing(time.Second, true)); !slices.Equal(got, []string{"report power"}) {
		t.Errorf("a standby has no role to give away: %v", got)
	}
}

// Whatever happens, in whatever order: no panic, a deadline is never in the past once tick has had it, and a factory
// reset is only ordered after its offer has been shown.
func TestAnything(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	states := []string{"INIT", "READY", "STANDBY", "ACTIVE", "ACTIVE!", "DOWN", ""}
	for round := range 300 {
		c := newCore(testBoard(t))
		now, offered := time.Duration(0), false
		for range 100 {
			now += time.Duration(rng.Int64N(int64(4 * time.Second)))
			var orders []Order
			switch rng.IntN(6) {
			case 0:
				f := in(states[rng.IntN(len(states))])
				f.Uptime, f.Answers = now, rng.IntN(4) > 0
				orders = c.learn(f)
			case 1:
				orders = c.pressed(now, "S1", rng.IntN(2) == 0)
			case 2:
				orders = c.failing(now, rng.IntN(2) == 0)
			case 3:
				orders = c.reading(rng.IntN(2), sensor.Reading{Celsius: float64(rng.IntN(120))}, nil)
			case 4:
				c.locate(now, time.Duration(rng.Int64N(int64(time.Minute))))
			}
			orders = append(orders, c.tick(now)...)
			for _, o := range orders {
				offered = offered || o.Do == Say && strings.HasSuffix(o.Text, "reset offered")
				if o.Do == FactoryReset && !offered {
					t.Fatal("a reset that was not offered")
				}
			}
			if at, ok := c.deadline(); ok && at <= now {
				t.Fatalf("round %d: deadline %v has passed at %v: %s", round, at, now, fmt.Sprintf("%+v", c.panel()))
			}
		}
	}
}
