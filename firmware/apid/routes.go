package apid

import (
	"net/http"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/policy/install"
)

// Prefix is in front of what strangers ask for, between front and keeper: the keeper has other paths for the front itself.
const Prefix = "/api"

// route leads from the network to a daemon.
type route struct {
	method, path string // as http.ServeMux has them
	role         Role
	socket, to   string // to: the daemon's path when it is another one
}

// archive stands for a socket where the keeper itself answers.
const archive = "techsupport"

// routes are all that can be asked for over the network. What is not here cannot: the daemons' API is as wide as root.
var routes = []route{
	{"GET", "/v1/status", Reader, api.HadSocket, ""},
	{"GET", "/v1/events", Reader, api.HadSocket, ""},
	{"GET", "/v1/changes", Reader, api.HadSocket, ""},
	{"GET", "/v1/sync", Reader, api.StatesyncdSocket, "/v1/status"},
	{"GET", "/v1/node", Reader, api.GatewaydSocket, ""},
	{"GET", "/v1/interfaces", Reader, api.GatewaydSocket, ""},
	{"GET", "/v1/hardware", Reader, api.GatewaydSocket, ""},
	{"GET", "/v1/license", Reader, api.GatewaydSocket, ""},
	{"GET", "/v1/connections/count", Reader, api.GatewaydSocket, ""},
	{"GET", install.PathStatus, Reader, api.GatewaydSocket, ""},
	{"GET", "/v1/routes", Reader, api.GatewaydSocket, ""},
	{"GET", "/v1/rules", Reader, api.GatewaydSocket, ""},
	{"GET", "/v1/traffic", Reader, api.GatewaydSocket, ""},
	{"GET", "/v1/traffic/compare", Reader, api.GatewaydSocket, ""},
	{"GET", "/v1/verify", Reader, api.GatewaydSocket, ""},
	{"GET", "/v1/peers/{peer}/status", Reader, api.GatewaydSocket, ""},
	{"GET", "/v1/peers/{peer}/hardware", Reader, api.GatewaydSocket, ""},
	{"GET", "/v1/peers/{peer}/routes", Reader, api.GatewaydSocket, ""},
	{"GET", "/v1/peers/{peer}/traffic", Reader, api.GatewaydSocket, ""},
	{"GET", "/v1/services", Reader, api.InitSocket, ""},
	{"GET", "/v1/upgrade", Reader, api.UpgradedSocket, "/v1/cluster"},

	{"GET", "/v1/connections", Admin, api.GatewaydSocket, ""},
	{"GET", "/v1/techsupport", Admin, archive, ""},
	{"GET", "/v1/journal", Admin, api.InitSocket, ""},
	{"GET", "/v1/node/file", Admin, api.GatewaydSocket, ""},
	{"GET", install.PathFile, Admin, api.GatewaydSocket, ""},
	{"POST", install.PathInstall, Admin, api.GatewaydSocket, ""},
	{"POST", install.PathConfirm, Admin, api.GatewaydSocket, ""},
	{"POST", install.PathCancel, Admin, api.GatewaydSocket, ""},
	{"POST", install.PathRecover, Admin, api.GatewaydSocket, ""},
	{"POST", install.PathResume, Admin, api.GatewaydSocket, ""},
	{"PUT", "/v1/license", Admin, api.GatewaydSocket, ""},
	{"POST", "/v1/failover", Admin, api.HadSocket, "/v1/deactivate"},
	{"POST", "/v1/activate", Admin, api.HadSocket, ""},
	{"POST", "/v1/clear-lock", Admin, api.HadSocket, ""},
	{"PUT", "/v1/devices/{name}", Admin, api.HadSocket, ""},
	{"DELETE", "/v1/devices/{name}", Admin, api.HadSocket, ""},
}

// mux leads strangers' requests to do, without the Prefix.
func mux(do func(http.ResponseWriter, *http.Request, route)) http.Handler {
	m := http.NewServeMux()
	for _, r := range routes {
		m.HandleFunc(r.method+" "+r.path, func(w http.ResponseWriter, req *http.Request) { do(w, req, r) })
	}
	m.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) { do(w, req, route{role: Reader}) })
	return http.StripPrefix(Prefix, m)
}
