package hald

import (
	"fmt"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/board"
	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/hal/button"
	"github.com/twinkeep/twinkeep/hal/buzzer"
	"github.com/twinkeep/twinkeep/hal/led"
	"github.com/twinkeep/twinkeep/hal/power"
	"github.com/twinkeep/twinkeep/hal/sensor"
)

// Do is what an order asks for.
type Do string

// Orders that the core gives to the world.
const (
	Say          Do = "say"           // a line in the journal
	Sound        Do = "sound"         // a tune
	PowerOff     Do = "power off"     // in order
	FactoryReset Do = "factory reset" // and restart
	GiveAway     Do = "give away"     // the role, now, and write out what is in memory
	Report       Do = "report"        // a critical device as a problem
	Clear        Do = "clear"         // the report
)

// Order is one of them.
type Order struct {
	Do     Do
	Device string // of Report and Clear
	Text   string // of Say and Report
	Bad    bool   // Say: a warning
	Tune   buzzer.Tune
}

// core decides: events and the time go in, orders come out. It knows no device, socket or clock. Time is monotonic, from
// any zero.
type core struct {
	board   *board.Board
	facts   Facts
	buttons map[string]*button.Machine
	presses map[string]uint64
	sensors []sensorState
	supply  power.Monitor
	fails   uint64
	faults  []string // what else somebody should look at, from whoever opens the parts

	status  led.Status
	reasons []string
	showing string // overlay: role, reset, locate; empty: the status
	until   time.Duration
	// resetting: confirmed, and only the restart is left. told: the first status has been said.
	resetting, told bool
	unreset         string // why a reset that was confirmed did not come about
}

type sensorState struct {
	judge   sensor.Judge
	limits  sensor.Limits
	celsius float64
	read    bool
	problem string
}

// roleTime is how long a short press shows the role.
const roleTime = 6 * time.Second

func newCore(b *board.Board) *core {
	c := &core{board: b, buttons: make(map[string]*button.Machine), presses: make(map[string]uint64), status: led.Booting}
	for _, k := range b.Buttons {
		c.buttons[k.Name] = &button.Machine{}
	}
	c.sensors = make([]sensorState, len(b.Sensors))
	return c
}

// parts is what the hardware complains about.
func (c *core) parts() (out []string) {
	if c.supply.Failing() {
		out = append(out, "the power supply fails")
	}
	for i := range c.sensors {
		s, d := &c.sensors[i], c.board.Sensors[i]
		if l := s.judge.Level(); s.read && l != sensor.OK {
			out = append(out, fmt.Sprintf("%s is %s: %.0f degrees", d.Name, l, s.celsius))
		}
		if s.problem != "" && !d.Optional {
			out = append(out, d.Name+": "+s.problem)
		}
	}
	if c.unreset != "" {
		out = append(out, c.unreset)
	}
	return append(out, c.faults...)
}

// review finds the status anew.
func (c *core) review() (out []Order) {
	before := c.status
	c.status, c.reasons = judge(c.facts, c.parts())
	if c.status == before && c.told {
		return nil
	}
	c.told = true
	text := "the case shows " + c.status.String()
	if len(c.reasons) > 0 {
		text += ": " + strings.Join(c.reasons, "; ")
	}
	bad := c.status == led.Attention || c.status == led.Lockdown
	out = append(out, Order{Do: Say, Text: text, Bad: bad})
	switch {
	case c.status == led.Attention:
		out = append(out, Order{Do: Sound, Tune: buzzer.Attention})
	case c.status == led.Lockdown:
		out = append(out, Order{Do: Sound, Tune: buzzer.Lockdown})
	case before == led.Booting && (c.status == led.Active || c.status == led.Standby):
		out = append(out, Order{Do: Sound, Tune: buzzer.Ready})
	}
	return out
}

// learn takes what the other daemons say. A critical device that had forgot is reported again, one that hald has no
// reason for any more is cleared: either of them may have been restarted.
func (c *core) learn(f Facts) (out []Order) {
	switch { // nobody else tells it, and the case may show attention for another reason already
	case f.Disk == c.facts.Disk:
	case f.Disk != "":
		out = append(out, Order{Do: Say, Text: f.Disk, Bad: true})
	default:
		out = append(out, Order{Do: Say, Text: "the data partition can be written and has room again"})
	}
	c.facts = f
	wanted := map[string]string{}
	if hot := c.hot(); hot != "" {
		wanted[api.TemperatureDevice] = hot
	}
	if c.supply.Failing() {
		wanted[api.PowerDevice] = "the power supply fails"
	}
	reported := map[string]bool{}
	for _, d := range f.HA.Devices {
		reported[d.Name] = d.State == "problem"
	}
	for _, name := range []string{api.TemperatureDevice, api.PowerDevice} {
		switch text, bad := wanted[name]; {
		case !f.Answers || f.standalone():
		case bad && !reported[name]:
			out = append(out, Order{Do: Report, Device: name, Text: text})
		case !bad && reported[name]:
			out = append(out, Order{Do: Clear, Device: name})
		}
	}
	return append(out, c.review()...)
}

// hot names the critical sensors whose board makes them a critical device.
func (c *core) hot() string {
	var out []string
	for i := range c.sensors {
		if d := c.board.Sensors[i]; d.Device && c.sensors[i].judge.Level() == sensor.Critical {
			out = append(out, fmt.Sprintf("%s %.0f degrees", d.Name, c.sensors[i].celsius))
		}
	}
	return strings.Join(out, ", ")
}

// reading takes a temperature, or why there is none.
func (c *core) reading(i int, r sensor.Reading, err error) (out []Order) {
	s, d := &c.sensors[i], c.board.Sensors[i]
	if err != nil {
		s.read, s.problem = false, err.Error()
		return c.review()
	}
	s.limits = sensor.Limits{Warn: float64(d.Warn), Critical: float64(d.Critical)}.Or(r.Own)
	s.celsius, s.read, s.problem = r.Celsius, true, ""
	wasHot := c.hot() != ""
	if s.judge.Step(r.Celsius, s.limits) {
		level := s.judge.Level()
		out = append(out, Order{Do: Say, Text: fmt.Sprintf("temperature %s is %s: %.1f degrees (limits %.0f, %.0f)", d.Name, level, r.Celsius, s.limits.Warn, s.limits.Critical), Bad: level != sensor.OK})
	}
	switch hot := c.hot(); {
	case c.facts.standalone():
	case hot != "" && !wasHot:
		out = append(out, Order{Do: Report, Device: api.TemperatureDevice, Text: hot})
	case hot == "" && wasHot:
		out = append(out, Order{Do: Clear, Device: api.TemperatureDevice})
	}
	return append(out, c.review()...)
}

// pressed takes a change of a button.
func (c *core) pressed(now time.Duration, name string, down bool) []Order {
	m := c.buttons[name]
	if m == nil {
		return nil
	}
	if down {
		c.presses[name]++
	}
	if c.use(name) == board.UsePower {
		if !down {
			return nil
		}
		return []Order{{Do: Say, Text: "button " + name + ": this device switches itself off"}, {Do: PowerOff}}
	}
	if down {
		return c.follow(now, name, m.Press(now))
	}
	return c.follow(now, name, m.Release(now))
}

func (c *core) use(name string) string {
	for _, b := range c.board.Buttons {
		if b.Name == name {
			return b.Use
		}
	}
	return ""
}

func (c *core) follow(now time.Duration, name string, actions []button.Action) (out []Order) {
	for _, a := range actions {
		out = append(out, Order{Do: Say, Text: "button " + name + ": " + string(a), Bad: a == button.Confirmed})
		switch a {
		case button.ShowRole:
			c.show("role", now+roleTime)
		case button.Offered:
			c.show("reset", now+button.Stuck)
			out = append(out, Order{Do: Sound, Tune: buzzer.Reset})
		case button.Cancelled:
			c.show("", 0)
		case button.Confirmed:
			c.resetting, c.unreset = true, ""
			out = append(out, Order{Do: FactoryReset})
		}
	}
	return out
}

// notReset takes that the box is not erased, so that nobody thinks it was.
func (c *core) notReset(err error) []Order {
	c.resetting, c.unreset = false, "the factory reset failed: "+err.Error()
	c.show("", 0)
	return c.review()
}

func (c *core) show(what string, until time.Duration) { c.showing, c.until = what, until }

// failing takes the level of the power-fail input.
func (c *core) failing(now time.Duration, bad bool) []Order {
	return c.supplied(c.supply.Step(now, bad))
}

func (c *core) supplied(actions []power.Action) (out []Order) {
	for _, a := range actions {
		switch a {
		case power.LastGasp:
			c.fails++
			// First the role, without a word before: there may be milliseconds left.
			if c.facts.active() && !c.facts.standalone() {
				out = append(out, Order{Do: GiveAway})
			}
			if !c.facts.standalone() {
				out = append(out, Order{Do: Report, Device: api.PowerDevice, Text: "the power supply fails"})
			}
			out = append(out, Order{Do: Say, Text: "the power supply fails: the role is given away", Bad: true})
		case power.Back:
			out = append(out, Order{Do: Clear, Device: api.PowerDevice}, Order{Do: Say, Text: "the power supply is back"})
		}
	}
	if len(out) > 0 {
		out = append(out, c.review()...)
	}
	return out
}

// locate makes the lamps show where the box is.
func (c *core) locate(now, d time.Duration) {
	if d <= 0 {
		c.show("", 0)
		return
	}
	c.show("locate", now+d)
}

// tick tells the time.
func (c *core) tick(now time.Duration) (out []Order) {
	for _, b := range c.board.Buttons {
		if b.Use == board.UseStatus {
			out = append(out, c.follow(now, b.Name, c.buttons[b.Name].Tick(now))...)
		}
	}
	out = append(out, c.supplied(c.supply.Tick(now))...)
	if c.showing != "" && now >= c.until {
		c.show("", 0)
	}
	return out
}

// deadline is when tick has something to do; ok is false when it has not.
func (c *core) deadline() (at time.Duration, ok bool) {
	sooner := func(t time.Duration, is bool) {
		if is && (!ok || t < at) {
			at, ok = t, true
		}
	}
	for _, m := range c.buttons {
		sooner(m.Deadline())
	}
	sooner(c.supply.Deadline())
	sooner(c.until, c.showing != "")
	return at, ok
}

// lamp is the pattern of a lamp now.
func (c *core) lamp(p led.Purpose) led.Pattern {
	if c.resetting {
		return led.Done
	}
	switch c.showing {
	case "reset":
		return led.Confirm
	case "locate":
		return led.Locate
	case "role":
		state := c.facts.HA.State
		if c.facts.standalone() {
			state = ""
		}
		return led.Role(state, p)
	}
	return led.Show(c.status, c.facts.active(), p)
}

// panel describes all of it.
func (c *core) panel() api.Panel {
	p := api.Panel{Board: c.board.Name, Status: c.status.String(), Active: c.facts.active(), Reasons: c.reasons, Showing: c.showing}
	for _, b := range c.board.Buttons {
		p.Buttons = append(p.Buttons, api.PanelButton{Name: b.Name, Use: b.Use, State: string(c.buttons[b.Name].State()), Presses: c.presses[b.Name]})
	}
	for i, d := range c.board.Sensors {
		s := &c.sensors[i]
		o := api.PanelSensor{Name: d.Name, Chip: d.Chip + " " + d.Input, Device: d.Device, Problem: s.problem}
		if s.read {
			o.Celsius, o.Level, o.Warn, o.Critical = s.celsius, string(s.judge.Level()), s.limits.Warn, s.limits.Critical
		}
		p.Sensors = append(p.Sensors, o)
	}
	if c.board.PowerFail != nil {
		p.Power = &api.PanelSupply{Failing: c.supply.Failing(), Count: c.fails}
	}
	return p
}
