package upgraded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/peerapi"
	"github.com/twinkeep/twinkeep/firmware/upgrade"
	"github.com/twinkeep/twinkeep/firmware/upgrade/rollout"
)

// Port is the TCP port of upgrades between members.
const Port = 8118

// Paths of the peer API. Bodies are JSON; what a member does not know it passes over.
const (
	pathCheck = "/upgrade/v1/check" // POST checkRequest -> upgrade.Release: what runs there
	pathSeen  = "/upgrade/v1/seen"  // POST seenRequest -> rollout.Seen
	pathAct   = "/upgrade/v1/act"   // POST actRequest
	pathFile  = "/upgrade/v1/file/" // GET + plan ID: the upgrade file, by ranges
	pathPlan  = "/upgrade/v1/plan"  // GET -> api.ClusterUpgrade
)

// checkRequest asks whether a member would take an image.
type checkRequest struct {
	Image upgrade.Candidate `json:"image"`
	Force bool              `json:"force,omitempty"`
}

// seenRequest names the plan for which a member is asked how it is. While it is asked it obeys no other driver.
type seenRequest struct {
	Plan string `json:"plan"`
}

// actRequest is one action of a plan.
type actRequest struct {
	Plan   string            `json:"plan"`
	Image  upgrade.Candidate `json:"image"`
	Force  bool              `json:"force,omitempty"`
	Action rollout.Action    `json:"action"`
}

const maxPlanID = 64

func (d *daemon) peerHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+pathCheck, answer(func(_ *http.Request, q checkRequest) (any, error) { return d.own.check(q) }))
	mux.HandleFunc("POST "+pathSeen, answer(func(r *http.Request, q seenRequest) (any, error) {
		return d.own.seen(r.Context(), q.Plan, peerapi.Member(r))
	}))
	mux.HandleFunc("POST "+pathAct, answer(func(r *http.Request, q actRequest) (any, error) {
		return struct{}{}, d.own.act(r.Context(), q, peerapi.Member(r))
	}))
	mux.HandleFunc("GET "+pathPlan, func(w http.ResponseWriter, _ *http.Request) { peerapi.Reply(w, d.driver.status()) })
	mux.HandleFunc("GET "+pathFile+"{plan}", func(w http.ResponseWriter, r *http.Request) {
		f, err := d.driver.open(r.PathValue("plan"))
		if err != nil {
			peerapi.Refuse(w, &peerapi.Error{Message: err.Error(), Status: http.StatusNotFound})
			return
		}
		defer f.Close()
		http.ServeContent(w, r, "", time.Time{}, f)
	})
	return mux
}

// answer is a handler that reads one message and sends one.
func answer[Q any](do func(*http.Request, Q) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var q Q
		if err := peerapi.Decode(r.Body, &q); err != nil {
			peerapi.Refuse(w, &peerapi.Error{Message: err.Error(), Status: http.StatusBadRequest})
			return
		}
		v, err := do(r, q)
		if err != nil {
			peerapi.Refuse(w, &peerapi.Error{Message: err.Error(), Status: http.StatusConflict})
			return
		}
		peerapi.Reply(w, v)
	}
}

// again is how often the node file is looked at.
const again = 2 * time.Second

// servePeers serves the other members, with the cluster key of the node file as it is at any time.
func (d *daemon) servePeers(ctx context.Context) {
	told := ""
	for ctx.Err() == nil {
		c, err := d.peers.cluster()
		if err == nil && !c.Judges() {
			err = d.serveKey(ctx, c.Key[:], c.Member)
		}
		if err != nil && ctx.Err() == nil && err.Error() != told {
			told = err.Error()
			d.Log.Warn("other members cannot reach this one for upgrades", "err", err)
		}
		sleep(ctx, again)
	}
}

// serveKey serves until the key or the member ID is another one.
func (d *daemon) serveKey(ctx context.Context, key []byte, self uint8) error {
	srv, err := peerapi.Server(key, self, d.peerHandler())
	if err != nil {
		return err
	}
	srv.ErrorLog = quiet
	ln, err := net.Listen("tcp", ":"+strconv.Itoa(Port))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			sleep(ctx, again)
			if c, err := d.peers.cluster(); err == nil && (c.Member != self || string(c.Key[:]) != string(key)) {
				cancel()
			}
		}
	}()
	return peerapi.Serve(ctx, ln, srv)
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// decode reads a request of the console.
func decode(r *http.Request, v any) error {
	dec := json.NewDecoder(io.LimitReader(r.Body, 64<<10))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return &api.Error{Status: http.StatusBadRequest, Message: "read the request: " + err.Error()}
	}
	return nil
}

// writeDurably puts data in place of a file: after a power cut there is the old one or the new one.
func writeDurably(name string, data []byte) error {
	f, err := os.OpenFile(name+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(name+".new", name)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return syncDirOf(name)
}
