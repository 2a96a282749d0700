package hald

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/init/unixhttp"
)

// box is a machine made of files: sysfs, /dev with a pipe in place of each input device, and the other daemons.
// A pipe has one reader, an input device many: no two inputs share one here.
type box struct {
	*testing.T
	sys, dev, run string
	keys          map[string]*os.File

	mu    sync.Mutex
	ha    member.Status
	calls []string
}

func newBox(t *testing.T) *box {
	b := &box{T: t, sys: t.TempDir(), dev: t.TempDir(), run: t.TempDir(), keys: make(map[string]*os.File)}
	b.ha = member.Status{ClusterID: 7, Member: 1, State: "STANDBY"}
	for _, l := range []string{"one", "two"} {
		b.write("class/leds/"+l+"/brightness", "0\n")
		b.write("class/leds/"+l+"/max_brightness", "1\n")
	}
	for event, name := range map[string]string{"event0": "d", "event1": "p", "event2": "f"} {
		b.write("class/input/"+event+"/device/name", name+"\n")
		path := filepath.Join(b.dev, "input", event)
		b.must(os.MkdirAll(filepath.Dir(path), 0o755))
		b.must(unix.Mkfifo(path, 0o600))
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		b.must(err)
		t.Cleanup(func() { f.Close() })
		b.keys[event] = f
	}
	b.write("class/hwmon/hwmon0/name", "k10temp\n")
	b.write("class/hwmon/hwmon0/temp1_input", "41000\n")
	for name, text := range map[string]string{"identity": "i6300ESB timer", "state": "active", "timeout": "30", "timeleft": "29", "nowayout": "0", "bootstatus": "32"} {
		b.write("class/watchdog/watchdog0/"+name, text+"\n")
	}
	b.daemons()
	return b
}

func (b *box) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *box) write(name, text string) {
	b.Helper()
	path := filepath.Join(b.sys, name)
	b.must(os.MkdirAll(filepath.Dir(path), 0o755))
	b.must(os.WriteFile(path, []byte(text), 0o600))
}

// daemons serves had, gatewayd and the supervisor, and notes what they are told.
func (b *box) daemons() {
	note := func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.calls = append(b.calls, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+string(body)))
		if strings.Contains(r.URL.Path, "/v1/devices/") {
			state := map[string]string{"PUT": "problem", "DELETE": "ok"}[r.Method]
			b.ha.Devices = []member.DeviceStatus{{Name: filepath.Base(r.URL.Path), State: state}}
		}
		api.Reply(w, api.Message{Message: "done"}, nil)
	}
	had := http.NewServeMux()
	had.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) {
		b.mu.Lock()
		defer b.mu.Unlock()
		api.Reply(w, b.ha, nil)
	})
	had.HandleFunc("/", note)
	gatewayd := http.NewServeMux()
	gatewayd.HandleFunc("GET /v1/node", func(w http.ResponseWriter, _ *http.Request) { api.Reply(w, api.NodeStatus{Applied: true}, nil) })
	gatewayd.HandleFunc("GET /v1/license", func(w http.ResponseWriter, _ *http.Request) {
		api.Reply(w, api.LicenceStatus{State: "licensed"}, nil)
	})
	supervisor := http.NewServeMux()
	supervisor.HandleFunc("/", note)
	ctx, cancel := context.WithCancel(context.Background())
	b.Cleanup(cancel)
	for socket, h := range map[string]http.Handler{api.HadSocket: had, api.GatewaydSocket: gatewayd, api.InitSocket: supervisor} {
		ln, err := unixhttp.Listen(filepath.Join(b.run, socket))
		b.must(err)
		go unixhttp.Serve(ctx, ln, h)
	}
}

func (b *box) state(s string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ha.State = s
}

func (b *box) told(call string) func() bool {
	return func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return slices.ContainsFunc(b.calls, func(c string) bool { return strings.HasPrefix(c, call) })
	}
}

// key presses a key of an input device, or releases it.
func (b *box) key(event string, code uint16, down bool) {
	b.Helper()
	e := make([]byte, 24)
	binary.NativeEndian.PutUint16(e[16:], 1)
	binary.NativeEndian.PutUint16(e[18:], code)
	if down {
		binary.NativeEndian.PutUint32(e[20:], 1)
	}
	_, err := b.keys[event].Write(e)
	b.must(err)
}

func (b *box) lit(lamp string) bool {
	text, err := os.ReadFile(filepath.Join(b.sys, "class/leds", lamp, "brightness"))
	b.must(err)
	return strings.HasPrefix(string(text), "1")
}

func (b *box) until(what string, ok func() bool) {
	b.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Fatalf("never: %s; told: %q", what, b.calls)
}

func (b *box) panel() api.Panel {
	b.Helper()
	p, err := api.NewClient(b.run).Panel(context.Background())
	b.must(err)
	return p
}

// TestDaemon: the whole daemon on a machine made of files.
func TestDaemon(t *testing.T) {
	b := newBox(t)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	ready := make(chan struct{})
	go func() {
		ended <- Run(ctx, Options{
			Board: testBoard(t), RunDir: b.run, Sys: b.sys, Dev: b.dev, Log: slog.New(slog.DiscardHandler), Ready: func() { close(ready) },
		})
	}()
	<-ready
	b.until("standby", func() bool { return b.panel().Status == "standby" })
	b.state("ACTIVE")
	b.until("both lamps are lit", func() bool { return b.lit("one") && b.lit("two") })

	// The button: what a short press shows ends by itself.
	b.key("event0", 408, true)
	b.until("the button is down", func() bool { return b.panel().Buttons[0].State == "down" })
	b.key("event0", 408, false)
	b.until("the role is shown", func() bool { return b.panel().Showing == "role" && !b.lit("two") })

	message, err := api.NewClient(b.run).Locate(ctx, api.Locate{For: member.Duration(time.Minute)})
	if err != nil || message != "all LEDs blink for 1m0s" || b.panel().Showing != "locate" {
		t.Errorf("%q, %v", message, err)
	}
	if _, err := api.NewClient(b.run).Locate(ctx, api.Locate{For: member.Duration(2 * time.Hour)}); err == nil {
		t.Error("two hours of blinking")
	}
	if _, err := api.NewClient(b.run).Locate(ctx, api.Locate{}); err != nil {
		t.Error(err)
	}

	// Heat: two readings five seconds apart.
	b.write("class/hwmon/hwmon0/temp1_input", "97000\n")
	b.until("had is told of the heat", b.told(`PUT /v1/devices/temperature {"state":"problem","text":"CPU 97 degrees"`))
	b.write("class/hwmon/hwmon0/temp1_input", "41000\n")
	b.until("had is told that it has cooled", b.told("DELETE /v1/devices/temperature"))

	// The supply.
	b.key("event2", 140, true)
	b.until("the role is given away", b.told("POST /v1/deactivate"))
	b.until("had is told of the supply", b.told("PUT /v1/devices/power"))
	b.key("event2", 140, false)

	b.key("event1", 116, true)
	b.until("the supervisor is told to switch off", b.told(`POST /v1/shutdown {"action":"poweroff"}`))

	p := b.panel()
	if w := p.Watch; w == nil || *w != (api.PanelWatchdog{Identity: "i6300ESB timer", State: "active", Timeout: 30, Left: 29, Fired: true}) {
		t.Errorf("watchdog %+v", w)
	}
	if p.LEDs[0].Device != "one" || p.LEDs[0].Problem != "" || p.Power.Count != 1 || p.Buttons[1].Presses != 1 || p.Sensors[1].Problem == "" {
		t.Errorf("%+v", p)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if b.lit("one") || b.lit("two") {
		t.Error("lamps are lit after the end")
	}
}

// A machine where nothing is as the board file says: hald serves, and names it.
func TestDaemonWithoutParts(t *testing.T) {
	run := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, Options{Board: testBoard(t), RunDir: run, Sys: t.TempDir(), Dev: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	}()
	var p api.Panel
	for range 500 {
		var err error
		if p, err = api.NewClient(run).Panel(ctx); err == nil && p.LEDs[0].Problem != "" && p.Sensors[0].Problem != "" {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	for name, problem := range map[string]string{"lamp": p.LEDs[0].Problem, "button": p.Buttons[0].Problem, "supply": p.Power.Problem, "sensor": p.Sensors[0].Problem} {
		if !strings.Contains(problem, "is its driver loaded") {
			t.Errorf("%s: %q", name, problem)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
