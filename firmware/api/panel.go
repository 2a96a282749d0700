package api

import (
	"context"
	"net/http"

	"github.com/twinkeep/twinkeep/ha/member"
)

// HaldSocket is the socket of hald in the run directory.
const HaldSocket = "hald.sock"

// UpgradingFile in the run directory exists while an image is being installed: the lamps show it.
const UpgradingFile = "upgrading"

// TemperatureDevice and PowerDevice are the critical devices by which hald reports heat and a failing supply.
const (
	TemperatureDevice = "temperature"
	PowerDevice       = "power"
)

// Panel is hald's GET /v1/status: what the case shows and what it was told.
type Panel struct {
	Board   string         `json:"board"`
	Status  string         `json:"status"`            // booting, standby, active, attention, lockdown, upgrading
	Active  bool           `json:"active"`            // this member forwards
	Reasons []string       `json:"reasons,omitempty"` // why somebody should look
	Showing string         `json:"showing,omitempty"` // what the lamps show instead of the status: role, reset, locate
	LEDs    []PanelLED     `json:"leds,omitempty"`
	Buttons []PanelButton  `json:"buttons,omitempty"`
	Sensors []PanelSensor  `json:"sensors,omitempty"`
	Power   *PanelSupply   `json:"power_fail,omitempty"`
	Buzzer  *PanelBuzzer   `json:"buzzer,omitempty"`
	Watch   *PanelWatchdog `json:"watchdog,omitempty"`
}

// PanelLED is one lamp.
type PanelLED struct {
	Name    string `json:"name"`
	Shows   string `json:"shows"`
	Device  string `json:"device"` // in the kernel
	Lit     bool   `json:"lit"`
	Problem string `json:"problem,omitempty"`
}

// PanelButton is one button.
type PanelButton struct {
	Name    string `json:"name"`
	Use     string `json:"use"`
	Device  string `json:"device"`
	State   string `json:"state"`   // idle, down, offering, waiting, confirming, ignoring
	Presses uint64 `json:"presses"` // since hald started
	Problem string `json:"problem,omitempty"`
}

// PanelSensor is one temperature.
type PanelSensor struct {
	Name     string  `json:"name"`
	Chip     string  `json:"chip"`
	Celsius  float64 `json:"celsius"`
	Warn     float64 `json:"warn,omitempty"`     // 0: no limit
	Critical float64 `json:"critical,omitempty"` // 0: no limit
	Level    string  `json:"level,omitempty"`    // ok, warm, critical; empty without a reading
	Device   bool    `json:"critical_device,omitempty"`
	Problem  string  `json:"problem,omitempty"`
}

// PanelSupply is the power-fail input.
type PanelSupply struct {
	Device  string `json:"device"`
	Failing bool   `json:"failing"`
	Count   uint64 `json:"count"` // failures since hald started
	Problem string `json:"problem,omitempty"`
}

// PanelBuzzer is the sounder.
type PanelBuzzer struct {
	Device  string `json:"device"`
	Problem string `json:"problem,omitempty"`
}

// PanelWatchdog is what the kernel says of the watchdog that PID 1 feeds.
type PanelWatchdog struct {
	Identity string `json:"identity"`
	State    string `json:"state"`          // active, inactive
	Timeout  int    `json:"timeout"`        // seconds
	Left     int    `json:"left,omitempty"` // seconds; 0 where the driver does not say
	NoWayOut bool   `json:"nowayout"`       // cannot be stopped
	Fired    bool   `json:"fired"`          // it caused the last reset
}

// Locate is the body of POST /v1/locate.
type Locate struct {
	For member.Duration `json:"for"` // at most an hour; 0s ends it
}

// Panel is what the case shows.
func (c *Client) Panel(ctx context.Context) (Panel, error) {
	return get[Panel](ctx, c, HaldSocket, "/v1/status")
}

// Locate makes all lamps blink, so that somebody finds the box.
func (c *Client) Locate(ctx context.Context, l Locate) (string, error) {
	var m Message
	err := c.call(ctx, HaldSocket, http.MethodPost, "/v1/locate", l, &m)
	return m.Message, err
}
