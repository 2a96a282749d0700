package console

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"sync"
	"testing"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/init/supervise"
	"github.com/twinkeep/twinkeep/init/unixhttp"
)

// fakes are the three daemons of a member, with had and gatewayd in a state that the test chooses.
type fakes struct {
	run string

	mu      sync.Mutex
	calls   []string // orders, in order
	ha      member.Status
	node    api.NodeStatus
	licence api.LicenceStatus
	file    string
	events  []member.Event
}

func (f *fakes) called(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, what)
}

func (f *fakes) got() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.calls...)
}

func newFakes(t *testing.T) *fakes {
	t.Helper()
	f := &fakes{run: t.TempDir(), ha: activeStatus(), node: appliedStatus(), licence: licensedStatus(), file: "version: 1\nhostname: gw-a\n"}
	f.events = []member.Event{{Seq: 1, Severity: "info", Name: "started", Text: "first"}}
	had := http.NewServeMux()
	had.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { api.Reply(w, f.ha, nil) })
	had.HandleFunc("GET /v1/events", func(w http.ResponseWriter, r *http.Request) {
		var since uint64
		fmt.Sscan(r.URL.Query().Get("since"), &since)
		f.mu.Lock()
		defer f.mu.Unlock()
		out := []member.Event{}
		for _, e := range f.events {
			if e.Seq > since {
				out = append(out, e)
			}
		}
		api.Reply(w, out, nil)
	})
	for _, order := range []string{"activate", "deactivate", "reload"} {
		had.HandleFunc("POST /v1/"+order, func(w http.ResponseWriter, _ *http.Request) {
			f.called("had " + order)
			api.Reply(w, api.Message{Message: order + " done"}, nil)
		})
	}
	gw := http.NewServeMux()
	gw.HandleFunc("GET /v1/node", func(w http.ResponseWriter, _ *http.Request) { api.Reply(w, f.node, nil) })
	gw.HandleFunc("GET /v1/node/file", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, f.file) })
	gw.HandleFunc("GET /v1/interfaces", func(w http.ResponseWriter, _ *http.Request) { api.Reply(w, interfaceList(), nil) })
	gw.HandleFunc("GET /v1/capture", f.serveCapture)
	gw.HandleFunc("GET /v1/license", func(w http.ResponseWriter, _ *http.Request) { api.Reply(w, f.licence, nil) })
	gw.HandleFunc("PUT /v1/license", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		f.called("install " + r.URL.RawQuery + string(body))
		api.Reply(w, licensedStatus(), nil)
	})
	gw.HandleFunc("DELETE /v1/license", func(w http.ResponseWriter, r *http.Request) {
		f.called("remove " + r.URL.RawQuery)
		api.Reply(w, nil, &api.Error{Status: 409, Message: "without the licence comes lockdown", Hint: "nothing was changed"})
	})
	for _, order := range []string{"disable", "enable"} {
		gw.HandleFunc("POST /v1/interfaces/{name}/"+order, func(w http.ResponseWriter, r *http.Request) {
			var o api.InterfaceOrder
			json.NewDecoder(r.Body).Decode(&o)
			f.called(fmt.Sprintf("%s %s %+v", order, r.PathValue("name"), o))
			api.Reply(w, api.Message{Message: order + " done"}, nil)
		})
	}
	gw.HandleFunc("PUT /v1/node/file", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if _, _, err := node.Parse("node.yaml", body); err != nil {
			api.Reply(w, nil, &api.Error{Status: 422, Message: "the node file has faults", Hint: "nothing was changed", Problems: err.(node.ErrorList)})
			return
		}
		f.called("put " + r.URL.RawQuery + string(body[:11]))
		api.Reply(w, appliedStatus(), nil)
	})
	pid1 := http.NewServeMux()
	pid1.HandleFunc("GET /v1/services", func(w http.ResponseWriter, _ *http.Request) {
		api.Reply(w, supervise.ServicesReply{Services: services()}, nil)
	})
	pid1.HandleFunc("POST /v1/services/{name}/restart", func(w http.ResponseWriter, r *http.Request) {
		f.called("restart " + r.PathValue("name"))
		w.WriteHeader(http.StatusNoContent)
	})
	pid1.HandleFunc("POST /v1/shutdown", func(w http.ResponseWriter, r *http.Request) {
		var body supervise.ShutdownRequest
		json.NewDecoder(r.Body).Decode(&body)
		f.called(string(body.Action))
		w.WriteHeader(http.StatusAccepted)
	})
	pid1.HandleFunc("GET /v1/journal", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		enc := json.NewEncoder(w)
		if q.Get("follow") == "" {
			for i := range uint64(5) {
				enc.Encode(supervise.Entry{Seq: i + 1, Service: "had", Line: fmt.Sprintf("line %d", i+1)})
			}
			return
		}
		enc.Encode(supervise.Entry{Seq: 6, Service: "had", Line: "new after " + q.Get("since")})
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
		f.called("follow ended")
	})
	for socket, h := range map[string]http.Handler{api.HadSocket: had, api.GatewaydSocket: gw, api.InitSocket: pid1} {
		ln, err := unixhttp.Listen(filepath.Join(f.run, socket))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- unixhttp.Serve(ctx, ln, h) }()
		t.Cleanup(func() { cancel(); <-done })
	}
	return f
}
