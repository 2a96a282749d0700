package hald

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/upgrade/trial"
	"github.com/twinkeep/twinkeep/hal/watchdog"
	"github.com/twinkeep/twinkeep/init/loader"
)

// maxLocate bounds how long the lamps show where the box is.
const maxLocate = time.Hour

func (d *daemon) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { api.Reply(w, d.status(), nil) })
	mux.HandleFunc("POST /v1/locate", func(w http.ResponseWriter, r *http.Request) {
		var l api.Locate
		dec := json.NewDecoder(io.LimitReader(r.Body, 4096))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&l); err != nil {
			api.Reply(w, nil, &api.Error{Status: http.StatusBadRequest, Message: "read the request: " + err.Error()})
			return
		}
		length := time.Duration(l.For)
		if length < 0 || length > maxLocate {
			api.Reply(w, nil, &api.Error{Status: http.StatusBadRequest, Message: fmt.Sprintf("for: %v is not between 0s and %v", length, maxLocate)})
			return
		}
		d.event(r.Context(), func(c *core, now time.Duration) []Order { c.locate(now, length); return nil })
		message := fmt.Sprintf("all LEDs blink for %v", length)
		switch {
		case len(d.Board.LEDs) == 0:
			message = "this board has no LED that software can switch"
		case length == 0:
			message = "the LEDs show the status again"
		}
		api.Reply(w, api.Message{Message: message}, nil)
	})
	mux.HandleFunc("/", api.NotFound)
	return mux
}

// status is the core's view with the devices behind it.
func (d *daemon) status() api.Panel {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.core.panel()
	text := func(err error) string {
		if err == nil {
			return ""
		}
		return err.Error()
	}
	for _, l := range d.parts.lamps {
		o := api.PanelLED{Name: l.spec.Name, Shows: l.spec.Shows, Device: l.device, Problem: text(l.err)}
		if l.driver != nil {
			lit, err := l.driver.State()
			o.Lit, o.Problem = lit, text(err)
		}
		p.LEDs = append(p.LEDs, o)
	}
	for i, w := range d.parts.inputs {
		if w.button != "" {
			p.Buttons[i].Device, p.Buttons[i].Problem = w.device, text(w.err)
		} else {
			p.Power.Device, p.Power.Problem = w.device, text(w.err)
		}
	}
	if b := d.Board.Buzzer; b != nil {
		p.Buzzer = &api.PanelBuzzer{Device: b.Device, Problem: text(d.parts.silent)}
	}
	p.Watch = watch(d.Sys)
	return p
}

// watch reads what the kernel says of the watchdog (Documentation/ABI/testing/sysfs-class-watchdog); nil without one.
func watch(sys string) *api.PanelWatchdog {
	dir := filepath.Join(sys, "class/watchdog/watchdog0")
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(b))
	}
	number := func(name string) int {
		n, _ := strconv.Atoi(read(name)) // absent: 0
		return n
	}
	w := &api.PanelWatchdog{Identity: read("identity"), State: read("state"), Timeout: number("timeout"), Left: number("timeleft")}
	if w.Identity == "" {
		return nil
	}
	w.NoWayOut, w.Fired = read("nowayout") == "1", watchdog.BootStatus(number("bootstatus")).ByWatchdog()
	return w
}

// upgrading tells why the box counts as upgrading, or "".
func upgrading(run string) string {
	if _, err := os.Stat(filepath.Join(run, api.UpgradingFile)); err == nil {
		return "an image is being installed"
	}
	if _, err := os.Stat(trial.ConfirmedFile); err == nil {
		return ""
	}
	if info, err := loader.Read(loader.Vars); err == nil && info.CountPath != "" {
		return "the image is on trial"
	}
	return ""
}
