package api

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/twinkeep/twinkeep/ha/member"
)

// Rate is a volume of traffic a second.
type Rate struct {
	Packets float64 `json:"packets"`
	Bytes   float64 `json:"bytes"`
}

// InterfaceVolume is what went through one interface.
type InterfaceVolume struct {
	Interface string `json:"interface"`
	Sync      bool   `json:"sync,omitempty"`
	// In and Out are all that the interface carried: heartbeats and state sync, too.
	In  Rate `json:"in"`
	Out Rate `json:"out"`
	// Cluster is what came in for the shared MAC and was let in: what the cluster forwards, seen where it enters. Refused is what
	// a shut gate dropped. Both are zero where there is no VIP.
	Cluster Rate `json:"cluster"`
	Refused Rate `json:"refused"`
}

// Volume is the traffic of one member over a time.
type Volume struct {
	Member     string            `json:"member"`
	Ago        member.Duration   `json:"ago"`  // since the end of that time
	Over       member.Duration   `json:"over"` // its length
	Holds      bool              `json:"holds"`
	Interfaces []InterfaceVolume `json:"interfaces"`
}

// Traffic is gatewayd's GET /v1/traffic?over=30s: the volume of this member, of the newest time up to MaxOver.
type Traffic struct {
	Member string `json:"member"`
	Volume Volume `json:"volume"`
	// Recorded is for how long gatewayd has counted, at most MaxOver.
	Recorded member.Duration `json:"recorded"`
	// Changes are the changes of the role that gatewayd has seen, oldest first, with the volume of this member before each.
	Changes []RoleChange `json:"changes"`
}

// RoleChange is a change of the member that holds the role.
type RoleChange struct {
	Ago      member.Duration `json:"ago"`
	From     uint8           `json:"from"` // who had the role before
	FromName string          `json:"from_name"`
	To       uint8           `json:"to"`
	ToName   string          `json:"to_name"`
	Term     uint64          `json:"term"`
	Before   *Volume         `json:"before,omitempty"` // of this member, up to the change; nil when it was not recorded
}

// DefaultOver is the time over which traffic is shown when none is given, MaxOver how far it is remembered.
const (
	DefaultOver = 30 * time.Second
	MaxOver     = 10 * time.Minute
)

// TrafficComparison is gatewayd's GET /v1/traffic/compare?over=30s: the volume of this member now against the one before the last
// failover.
type TrafficComparison struct {
	Member string      `json:"member"`
	Holds  bool        `json:"holds"`
	Change *RoleChange `json:"change,omitempty"` // the last failover; nil: none was seen
	// Before is the volume that After is held against, nil when there is none: Result and Text say why.
	Before *Volume `json:"before,omitempty"`
	Basis  string  `json:"basis,omitempty"` // whose figures Before are, and how they were had
	After  Volume  `json:"after"`
	// PacketRatio and ByteRatio are After by Before, of what came in for the cluster; 0 without Before.
	PacketRatio float64      `json:"packet_ratio"`
	ByteRatio   float64      `json:"byte_ratio"`
	Result      VerifyResult `json:"result"`
	Text        string       `json:"text"`
	Next        string       `json:"next,omitempty"` // what to do when it is not ok
}

// Traffic is the volume of this member over a time; 0 means DefaultOver.
func (c *Client) Traffic(ctx context.Context, over time.Duration) (Traffic, error) {
	return get[Traffic](ctx, c, GatewaydSocket, "/v1/traffic?"+timeQuery("over", over))
}

// CompareTraffic holds the volume of this member against the one before the last failover.
func (c *Client) CompareTraffic(ctx context.Context, over time.Duration) (TrafficComparison, error) {
	return get[TrafficComparison](ctx, c, GatewaydSocket, "/v1/traffic/compare?"+timeQuery("over", over))
}

// PeerTraffic is the volume of another member, by name or ID.
func (c *Client) PeerTraffic(ctx context.Context, peer string, over time.Duration) (Traffic, error) {
	return askPeer[Traffic](ctx, c, peer, "traffic?"+timeQuery("over", over))
}

func timeQuery(name string, d time.Duration) string {
	if d == 0 {
		return ""
	}
	return url.Values{name: {d.String()}}.Encode()
}

// TimeOf reads a length of time from the query of a request: def when it is missing, else at least min and at most max.
func TimeOf(r *http.Request, name string, def, least, most time.Duration) (time.Duration, error) {
	s := r.URL.Query().Get(name)
	if s == "" {
		return def, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < least || d > most {
		return 0, &Error{Status: http.StatusBadRequest, Message: name + " is " + s, Hint: "a time from " + least.String() + " to " + most.String() + ", as 30s"}
	}
	return d, nil
}
