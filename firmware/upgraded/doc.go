// Package upgraded is the daemon of upgrades: it keeps an image on trial once this member is healthy, does what the member that
// drives an upgrade of the cluster asks for, and drives one itself. The decisions are in firmware/upgrade/rollout.
package upgraded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/upgrade/esp"
	"github.com/twinkeep/twinkeep/firmware/upgrade/trial"
	"github.com/twinkeep/twinkeep/init/unixhttp"
)

// Options of Run.
type Options struct {
	ConfigDir, StateDir, RunDir string
	Place                       esp.Place     // of the slots
	HealthyFor                  time.Duration // before an image on trial is kept
	Ready                       func()        // called when the socket is served; may be nil
	Log                         *slog.Logger
}

// daemon is one member's upgrades.
type daemon struct {
	Options
	client *api.Client
	own    *participant
	peers  *peers
	driver *driver
}

// Run serves until ctx ends.
func Run(ctx context.Context, o Options) error {
	if err := os.MkdirAll(o.RunDir, 0o755); err != nil {
		return fmt.Errorf("upgraded: %w", err)
	}
	ln, err := unixhttp.Listen(filepath.Join(o.RunDir, api.UpgradedSocket))
	if err != nil {
		return fmt.Errorf("upgraded: %w", err)
	}
	d := &daemon{Options: o, client: api.NewClient(o.RunDir)}
	d.own = newParticipant(o, d.client)
	d.peers = &peers{dir: o.ConfigDir, run: o.RunDir, client: d.client, last: make(map[uint8]string)}
	d.own.peers = d.peers
	d.driver = newDriver(o, d.own, d.peers)
	var wg sync.WaitGroup
	wg.Go(func() { d.driver.run(ctx) })
	wg.Go(func() { d.servePeers(ctx) })
	wg.Go(func() {
		box := trial.Box{Place: o.Place, RunDir: o.RunDir}
		err := box.Run(ctx, trial.Member{Client: d.client}, o.HealthyFor, func(format string, args ...any) { o.Log.Info(fmt.Sprintf(format, args...)) })
		if err != nil && !errors.Is(err, esp.ErrNoDisk) {
			o.Log.Error("the trial of this image is not looked after", "err", err)
		}
	})
	if o.Ready != nil {
		o.Ready()
	}
	err = unixhttp.Serve(ctx, ln, d.handler())
	d.own.stop()
	wg.Wait()
	return err
}

// handler serves the console.
func (d *daemon) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/cluster", func(w http.ResponseWriter, r *http.Request) {
		s := d.driver.status()
		if s.Plan == nil || s.Plan.Phase.Ended() {
			if other, ok := d.elsewhere(r.Context()); ok {
				s = other
			}
		}
		api.Reply(w, s, nil)
	})
	mux.HandleFunc("POST /v1/cluster", func(w http.ResponseWriter, r *http.Request) {
		var o api.UpgradeOrder
		err := decode(r, &o)
		if err == nil {
			err = d.driver.begin(ctxOf(r), o)
		}
		api.Reply(w, api.Message{Message: "the upgrade of the cluster begins"}, err)
	})
	mux.HandleFunc("POST /v1/abort", func(w http.ResponseWriter, _ *http.Request) {
		err := d.driver.abort("an operator ended it")
		api.Reply(w, api.Message{Message: "the members that have the new image go back"}, err)
	})
	mux.HandleFunc("/", api.NotFound)
	return mux
}

// elsewhere asks the member that drives, if it is another one.
func (d *daemon) elsewhere(ctx context.Context) (api.ClusterUpgrade, bool) {
	by, name := d.own.drivenBy()
	if by == 0 {
		return api.ClusterUpgrade{}, false
	}
	var s api.ClusterUpgrade
	err := d.peers.call(ctx, by, http.MethodGet, pathPlan, nil, &s)
	if err != nil {
		s = api.ClusterUpgrade{Error: fmt.Sprintf("member %d drives an upgrade of the cluster (%s) and does not answer: %v", by, name, err)}
	}
	return s, true
}
