package api

import (
	"context"
	"net/netip"
)

// RouteTable is gatewayd's GET /v1/routes: the virtual route table of one member. It is the kernel's table, with who serves each
// route: those of the cluster follow the role.
type RouteTable struct {
	Member string `json:"member"`           // whose table it is
	Master string `json:"master,omitempty"` // owner of the routes that follow the role: CLUSTER-master; empty on a standalone gateway
	Holder string `json:"holder,omitempty"` // the member that holds the role, as this one knows; empty: nobody
	// Problem says why it is not known who holds the role; the routes of the cluster are not available then.
	Problem string  `json:"problem,omitempty"`
	Routes  []Route `json:"routes"`
	Left    int     `json:"left_off,omitempty"` // routes beyond MaxRoutes; those with a fault are listed before all others
}

// MaxRoutes is the most routes of a table.
const MaxRoutes = 3000

// RouteKind says where a route comes from.
type RouteKind string

// Kinds of routes.
const (
	RouteVIP        RouteKind = "vip"        // a shared address
	RouteDefault    RouteKind = "default"    // a static route to everywhere
	RouteStatic     RouteKind = "static"     // of the policy or the node file
	RouteConnected  RouteKind = "connected"  // subnet of an interface
	RouteManagement RouteKind = "management" // a member's own address
	RouteOther      RouteKind = "other"      // in the kernel, and not by us
)

// Route is one of them.
type Route struct {
	Kind        RouteKind    `json:"kind"`
	Destination netip.Prefix `json:"destination"`
	Gateway     netip.Addr   `json:"gateway,omitzero"`
	Interface   string       `json:"interface"` // name in the configuration, else the device's
	Metric      int          `json:"metric"`
	Owner       string       `json:"owner"` // who serves it: CLUSTER-master, or a member
	// Available: traffic for it is served by the member whose table this is, now.
	Available bool   `json:"available"`
	Why       string `json:"why,omitempty"` // it is not available
	// Fault: it would not be available either if this member had to serve it.
	Fault bool `json:"fault,omitempty"`
}

// Routes is the virtual route table of this member.
func (c *Client) Routes(ctx context.Context) (RouteTable, error) {
	return get[RouteTable](ctx, c, GatewaydSocket, "/v1/routes")
}

// PeerRoutes is the virtual route table of another member, by name or ID.
func (c *Client) PeerRoutes(ctx context.Context, peer string) (RouteTable, error) {
	return askPeer[RouteTable](ctx, c, peer, "routes")
}
