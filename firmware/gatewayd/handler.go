package gatewayd

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/firmware/policy/install"
)

// handler is the API of the box:
//
//	GET  /v1/node                 api.NodeStatus
//	GET  /v1/node/file            the node file without the key
//	PUT  /v1/node/file            saves and applies the body; api.NodeStatus
//	PUT  /v1/node/file?check=1    checks it only
//	POST /v1/reload               reads the file again; api.NodeStatus
//	GET  /v1/interfaces           []api.Interface
//	POST /v1/interfaces/{name}/disable   takes one out; api.InterfaceOrder, api.Message
//	POST /v1/interfaces/{name}/enable    puts it back; api.Message
//	GET  /v1/license              api.LicenceStatus
//	PUT  /v1/license?force=1      installs the body; api.LicenceStatus
//	DELETE /v1/license?force=1    takes it out; api.LicenceStatus
//	POST /v1/license/contact      asks the licence server; api.Message
//	*    /v1/policy…              package firmware/policy/install, on a box that runs by policies
//	GET  /v1/hardware             api.Hardware
//	GET  /v1/routes               api.RouteTable
//	GET  /v1/rules                api.RuleCounts
//	GET  /v1/traffic?over=30s     api.Traffic
//	GET  /v1/traffic/compare?over=30s   api.TrafficComparison
//	GET  /v1/verify?for=5s        api.Verification; asks all members
//	GET  /v1/peers/{peer}/hardware   api.Hardware of another member, by name or ID; asked over peerapi
//	GET  /v1/peers/{peer}/status     member.Status of another member
//	GET  /v1/peers/{peer}/routes     api.RouteTable of another member
//	GET  /v1/peers/{peer}/traffic?over=30s   api.Traffic of another member
//	GET  /v1/connections?limit=N&proto=P&…   api.Connections; see api.ConnectionFilter
//	GET  /v1/connections/count    api.ConnectionCount
//	GET  /v1/capture?interface=G1&filter=F&…   frames as they pass, as pcapng; see api.CaptureQuery
func (d *daemon) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/node", func(w http.ResponseWriter, _ *http.Request) {
		d.mu.Lock()
		defer d.mu.Unlock()
		api.Reply(w, d.nodeStatus(), nil)
	})
	mux.HandleFunc("GET /v1/node/file", d.getFile)
	mux.HandleFunc("PUT /v1/node/file", d.putFile)
	mux.HandleFunc("POST /v1/reload", func(w http.ResponseWriter, _ *http.Request) {
		status := d.reload()
		if len(status.Errors) > 0 {
			api.Reply(w, nil, refused(status.Errors, "what ran before goes on"))
			return
		}
		api.Reply(w, status, nil)
	})
	mux.HandleFunc("GET /v1/interfaces", func(w http.ResponseWriter, _ *http.Request) {
		list, err := interfaces(d.inForce())
		d.markInterfaces(list)
		api.Reply(w, list, err)
	})
	mux.HandleFunc("POST /v1/interfaces/{name}/disable", d.disableInterface)
	mux.HandleFunc("POST /v1/interfaces/{name}/enable", d.enableInterface)
	mux.HandleFunc("GET /v1/license", func(w http.ResponseWriter, _ *http.Request) { api.Reply(w, d.licence.status(), nil) })
	mux.HandleFunc("PUT /v1/license", d.installLicence)
	mux.HandleFunc("DELETE /v1/license", d.removeLicence)
	mux.HandleFunc("POST /v1/license/contact", d.contactLicenceServer)
	mux.HandleFunc("GET /v1/hardware", func(w http.ResponseWriter, _ *http.Request) {
		api.Reply(w, hardware(d.inForce()), nil)
	})
	mux.HandleFunc("GET /v1/connections", func(w http.ResponseWriter, r *http.Request) {
		f, err := parseFilter(r.URL.Query())
		if err != nil {
			api.Reply(w, nil, &api.Error{Status: http.StatusBadRequest, Message: err.Error()})
			return
		}
		writeConnections(r.Context(), w, f)
	})
	mux.HandleFunc("GET /v1/connections/count", func(w http.ResponseWriter, _ *http.Request) {
		n, err := connectionCount()
		api.Reply(w, n, err)
	})
	mux.HandleFunc("GET /v1/capture", d.serveCapture)
	mux.HandleFunc("GET /v1/routes", func(w http.ResponseWriter, r *http.Request) {
		t, err := d.routeTable(r.Context())
		api.Reply(w, t, err)
	})
	mux.HandleFunc("GET /v1/rules", func(w http.ResponseWriter, _ *http.Request) {
		n, err := d.ruleCounts()
		api.Reply(w, n, err)
	})
	d.handleTraffic(mux)
	mux.HandleFunc("GET /v1/verify", d.serveVerify)
	d.handlePeers(mux)
	mux.HandleFunc(install.PathStatus, d.servePolicy)
	mux.HandleFunc(install.PathStatus+"/", d.servePolicy)
	mux.HandleFunc("/", api.NotFound)
	return mux
}

// servePolicy is the API of policies, where the box runs by them.
func (d *daemon) servePolicy(w http.ResponseWriter, r *http.Request) {
	p := d.policies.Load()
	if p == nil {
		api.Reply(w, nil, &api.Error{Status: http.StatusConflict, Message: "this box runs by its node file alone",
			Hint: "to run it by policies, put the public key of who signs them into " + filepath.Join(d.ConfigDir, keysDir) + "; then: node reload"})
		return
	}
	p.api.ServeHTTP(w, r)
}

// inForce is the node file that runs; an empty one when none does.
func (d *daemon) inForce() *node.Node {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.node == nil {
		return new(node.Node)
	}
	return d.node
}

func (d *daemon) path() string { return filepath.Join(d.ConfigDir, node.FileName) }

func (d *daemon) getFile(w http.ResponseWriter, _ *http.Request) {
	data, err := os.ReadFile(d.path())
	if err != nil {
		api.Reply(w, nil, &api.Error{Status: http.StatusNotFound, Message: err.Error(), Hint: "write one with: node edit"})
		return
	}
	w.Header().Set("Content-Type", "application/yaml")
	w.Write(node.Redact(data))
}

func (d *daemon) putFile(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, node.MaxSize))
	if err != nil {
		api.Reply(w, nil, &api.Error{
			Status: http.StatusRequestEntityTooLarge, Message: fmt.Sprintf("read the node file: %v", err),
			Hint: fmt.Sprintf("it has at most %d bytes", node.MaxSize),
		})
		return
	}
	if old, err := os.ReadFile(d.path()); err == nil {
		data = node.Unredact(data, old)
	}
	if r.URL.Query().Get("check") == "1" {
		_, warnings, err := node.Check(d.ConfigDir, data)
		if err != nil {
			api.Reply(w, nil, refused(problems(d.path(), err), "nothing was changed"))
			return
		}
		api.Reply(w, api.NodeStatus{File: d.path(), Warnings: warnings}, nil)
		return
	}
	if _, err := node.Save(d.ConfigDir, data); err != nil {
		var faults node.ErrorList
		if errors.As(err, &faults) {
			err = refused(faults, "nothing was changed")
		}
		api.Reply(w, nil, err)
		return
	}
	api.Reply(w, d.reload(), nil)
}

// refused is the answer to a bad node file.
func refused(faults []node.Problem, hint string) *api.Error {
	count := fmt.Sprintf("%d faults", len(faults))
	if len(faults) == 1 {
		count = "a fault"
	}
	return &api.Error{Status: http.StatusUnprocessableEntity, Message: "the node file has " + count, Hint: hint, Problems: faults}
}
