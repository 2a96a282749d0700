package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"time"

	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/init/supervise"
	"github.com/twinkeep/twinkeep/init/unixhttp"
)

// Timeout is how long a daemon may take to answer.
const Timeout = 10 * time.Second

// Client talks to the daemons of one member. Its methods may be called from any goroutine. Errors are *Error.
type Client struct {
	run   string
	https map[string]*http.Client
}

// NewClient makes a client of the sockets in a run directory. It connects when asked for something.
func NewClient(runDir string) *Client {
	c := &Client{run: runDir, https: make(map[string]*http.Client)}
	for _, socket := range []string{InitSocket, GatewaydSocket, HadSocket, StatesyncdSocket, HaldSocket, UpgradedSocket, SSHSocket, RemoteSocket} {
		c.https[socket] = &http.Client{Transport: &http.Transport{
			DialContext:       unixhttp.Dial(filepath.Join(runDir, socket)),
			DisableKeepAlives: true, // a command makes one request
		}}
	}
	return c
}

// do sends a request and gives the answer's body, which the caller closes. ctx is the only limit in time.
func (c *Client) do(ctx context.Context, socket, method, path string, body []byte) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+socket+path, bytes.NewReader(body))
	if err != nil {
		return nil, &Error{Message: err.Error(), Cause: err}
	}
	resp, err := c.https[socket].Do(req)
	if err != nil {
		return nil, c.explain(ctx, socket, err)
	}
	if resp.StatusCode < 300 {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	e := &Error{Status: resp.StatusCode}
	data, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if json.Unmarshal(data, e) != nil || e.Message == "" {
		e.Message = fmt.Sprintf("%s %s: %s", method, path, resp.Status)
	}
	return nil, e
}

func (c *Client) explain(ctx context.Context, socket string, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	return unreachable(socket, filepath.Join(c.run, socket), err)
}

// call sends a request with body as JSON, if any, and reads the answer into reply, if not nil.
func (c *Client) call(ctx context.Context, socket, method, path string, body, reply any) error {
	return c.callFor(ctx, Timeout, socket, method, path, body, reply)
}

// callFor is call for what may take longer.
func (c *Client) callFor(ctx context.Context, limit time.Duration, socket, method, path string, body, reply any) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var data []byte
	switch b := body.(type) {
	case nil:
	case []byte:
		data = b
	default:
		var err error
		if data, err = json.Marshal(b); err != nil {
			return &Error{Message: err.Error(), Cause: err}
		}
	}
	r, err := c.do(ctx, socket, method, path, data)
	if err != nil {
		return err
	}
	defer r.Close()
	switch reply := reply.(type) {
	case nil:
		_, err = io.Copy(io.Discard, r)
	case *[]byte:
		*reply, err = io.ReadAll(r)
	default:
		err = json.NewDecoder(r).Decode(reply)
	}
	if err != nil {
		return c.explain(ctx, socket, fmt.Errorf("read the answer: %w", err))
	}
	return nil
}

func get[T any](ctx context.Context, c *Client, socket, path string) (v T, err error) {
	err = c.call(ctx, socket, http.MethodGet, path, nil, &v)
	return v, err
}

// Open gives a daemon's answer as it comes. The caller closes it; ctx is the only limit in time.
func (c *Client) Open(ctx context.Context, socket, path string) (io.ReadCloser, error) {
	return c.do(ctx, socket, http.MethodGet, path, nil)
}

// HA is had's view of the cluster.
func (c *Client) HA(ctx context.Context) (member.Status, error) {
	return get[member.Status](ctx, c, HadSocket, "/v1/status")
}

// Events are had's events after the one numbered since, oldest first.
func (c *Client) Events(ctx context.Context, since uint64) ([]member.Event, error) {
	return get[[]member.Event](ctx, c, HadSocket, "/v1/events?since="+strconv.FormatUint(since, 10))
}

// Activate asks had to take the role; with force it takes it without a majority.
func (c *Client) Activate(ctx context.Context, force bool) (string, error) {
	var m Message
	err := c.call(ctx, HadSocket, http.MethodPost, "/v1/activate", Activate{Force: force}, &m)
	return m.Message, err
}

// ClearLock lets a role that is locked here be given back.
func (c *Client) ClearLock(ctx context.Context) (string, error) {
	return c.order(ctx, "/v1/clear-lock")
}

// Changes are the newest changes of the role with their evidence, newest first.
func (c *Client) Changes(ctx context.Context) ([]member.Change, error) {
	return get[[]member.Change](ctx, c, HadSocket, "/v1/changes")
}

// Watch changes how an interface is used until had starts again.
func (c *Client) Watch(ctx context.Context, w Watch) (string, error) {
	var m Message
	err := c.call(ctx, HadSocket, http.MethodPost, "/v1/watch", w, &m)
	return m.Message, err
}

// SetPriority puts a priority in force that the node file has by now, without a restart.
func (c *Client) SetPriority(ctx context.Context, p Priority) (string, error) {
	var m Message
	err := c.call(ctx, HadSocket, http.MethodPost, "/v1/priority", p, &m)
	return m.Message, err
}

// RemoveMember makes had forget a member that the node file does not list any more, without a restart.
func (c *Client) RemoveMember(ctx context.Context, r Remove) (string, error) {
	var m Message
	err := c.call(ctx, HadSocket, http.MethodPost, "/v1/remove", r, &m)
	return m.Message, err
}

// ReportSync says whether this member's connection table equals the active member's.
func (c *Client) ReportSync(ctx context.Context, s SyncReport) (string, error) {
	var m Message
	err := c.call(ctx, HadSocket, http.MethodPost, "/v1/sync", s, &m)
	return m.Message, err
}

// SetPolicy tells had which policy this member runs.
func (c *Client) SetPolicy(ctx context.Context, p Policy) (string, error) {
	var m Message
	err := c.call(ctx, HadSocket, http.MethodPost, "/v1/policy", p, &m)
	return m.Message, err
}

// ReloadSync makes statesyncd read what it runs by again.
func (c *Client) ReloadSync(ctx context.Context) (string, error) {
	var m Message
	err := c.call(ctx, StatesyncdSocket, http.MethodPost, "/v1/reload", nil, &m)
	return m.Message, err
}

// Deactivate asks had to give the role to a peer.
func (c *Client) Deactivate(ctx context.Context) (string, error) {
	return c.order(ctx, "/v1/deactivate")
}

// Failover is Deactivate with a member to give the role to, and a time after which this one asks for it back.
func (c *Client) Failover(ctx context.Context, f Failover) (string, error) {
	var m Message
	err := c.call(ctx, HadSocket, http.MethodPost, "/v1/deactivate", f, &m)
	return m.Message, err
}

// ReportDevice registers a critical device, or says how it is.
func (c *Client) ReportDevice(ctx context.Context, name string, r DeviceReport) (string, error) {
	var m Message
	err := c.call(ctx, HadSocket, http.MethodPut, "/v1/devices/"+url.PathEscape(name), r, &m)
	return m.Message, err
}

// UnregisterDevice takes a critical device off the list.
func (c *Client) UnregisterDevice(ctx context.Context, name string) (string, error) {
	var m Message
	err := c.call(ctx, HadSocket, http.MethodDelete, "/v1/devices/"+url.PathEscape(name), nil, &m)
	return m.Message, err
}

// ReloadHA makes had read the node file again.
func (c *Client) ReloadHA(ctx context.Context) (string, error) { return c.order(ctx, "/v1/reload") }

// AdaptHA makes had take in what is in force while it runs: VIPs and priorities. With an error it needs ReloadHA for that.
func (c *Client) AdaptHA(ctx context.Context) (string, error) { return c.order(ctx, "/v1/adapt") }

func (c *Client) order(ctx context.Context, path string) (string, error) {
	var m Message
	err := c.call(ctx, HadSocket, http.MethodPost, path, nil, &m)
	return m.Message, err
}

// Node is the state of the node file.
func (c *Client) Node(ctx context.Context) (NodeStatus, error) {
	return get[NodeStatus](ctx, c, GatewaydSocket, "/v1/node")
}

// NodeFile is the node file on disk, without the cluster key.
func (c *Client) NodeFile(ctx context.Context) ([]byte, error) {
	return get[[]byte](ctx, c, GatewaydSocket, "/v1/node/file")
}

// CheckNode checks a node file and changes nothing. A bad one gives an *Error with Problems.
func (c *Client) CheckNode(ctx context.Context, data []byte) (s NodeStatus, err error) {
	err = c.call(ctx, GatewaydSocket, http.MethodPut, "/v1/node/file?check=1", data, &s)
	return s, err
}

// PutNode saves a node file and applies it. A bad one changes nothing and gives an *Error with Problems.
func (c *Client) PutNode(ctx context.Context, data []byte) (s NodeStatus, err error) {
	err = c.call(ctx, GatewaydSocket, http.MethodPut, "/v1/node/file", data, &s)
	return s, err
}

// ReloadNode makes gatewayd read the node file again and apply it.
func (c *Client) ReloadNode(ctx context.Context) (s NodeStatus, err error) {
	err = c.call(ctx, GatewaydSocket, http.MethodPost, "/v1/reload", nil, &s)
	return s, err
}

// Interfaces are those of the node file first, then the other NICs of the box.
func (c *Client) Interfaces(ctx context.Context) ([]Interface, error) {
	return get[[]Interface](ctx, c, GatewaydSocket, "/v1/interfaces")
}

// Licence is what the licence says, and what the box makes of it.
func (c *Client) Licence(ctx context.Context) (LicenceStatus, error) {
	return get[LicenceStatus](ctx, c, GatewaydSocket, "/v1/license")
}

// InstallLicence replaces the licence. A bad one is refused and changes nothing; one that leads to lockdown needs force.
func (c *Client) InstallLicence(ctx context.Context, file []byte, force bool) (s LicenceStatus, err error) {
	err = c.call(ctx, GatewaydSocket, http.MethodPut, "/v1/license"+forced(force), file, &s)
	return s, err
}

// RemoveLicence takes the licence out: what is left of the demo begins.
func (c *Client) RemoveLicence(ctx context.Context, force bool) (s LicenceStatus, err error) {
	err = c.call(ctx, GatewaydSocket, http.MethodDelete, "/v1/license"+forced(force), nil, &s)
	return s, err
}

// ContactLicenceServer asks the licence server now.
func (c *Client) ContactLicenceServer(ctx context.Context) (string, error) {
	var m Message
	err := c.call(ctx, GatewaydSocket, http.MethodPost, "/v1/license/contact", nil, &m)
	return m.Message, err
}

func forced(force bool) string {
	if force {
		return "?force=1"
	}
	return ""
}

// DisableInterface takes an interface out until a restart, or for good.
func (c *Client) DisableInterface(ctx context.Context, name string, o InterfaceOrder) (string, error) {
	var m Message
	err := c.call(ctx, GatewaydSocket, http.MethodPost, "/v1/interfaces/"+url.PathEscape(name)+"/disable", o, &m)
	return m.Message, err
}

// EnableInterface undoes DisableInterface.
func (c *Client) EnableInterface(ctx context.Context, name string) (string, error) {
	var m Message
	err := c.call(ctx, GatewaydSocket, http.MethodPost, "/v1/interfaces/"+url.PathEscape(name)+"/enable", nil, &m)
	return m.Message, err
}

// Hardware describes the box.
func (c *Client) Hardware(ctx context.Context) (Hardware, error) {
	return get[Hardware](ctx, c, GatewaydSocket, "/v1/hardware")
}

// ConnectionFilter chooses connections. The zero value means all. Without NAT the reply has the ends of the original
// direction the other way round; with NAT its destination is where the connection comes out.
type ConnectionFilter struct {
	Limit              int    // 0 means DefaultLimit
	Proto              string // "tcp", "udp", "icmp", … or a number
	Src, Dst           string // address or network, of the original direction
	SPort, DPort       string // port or range a-b
	ReplySrc, ReplyDst string // of the reply direction
	ReplySPort         string
	ReplyDPort         string
	State              string // of TCP, or one of assured, unreplied, offload
	Mark               string // number, or number/mask
	Zone               string // number
}

// Values are the filter's query parameters by their names, which are also those of the console's flags.
func (f *ConnectionFilter) Values() map[string]*string {
	return map[string]*string{
		"proto": &f.Proto, "src": &f.Src, "dst": &f.Dst, "sport": &f.SPort, "dport": &f.DPort,
		"reply-src": &f.ReplySrc, "reply-dst": &f.ReplyDst, "reply-sport": &f.ReplySPort, "reply-dport": &f.ReplyDPort,
		"state": &f.State, "mark": &f.Mark, "zone": &f.Zone,
	}
}

func (f *ConnectionFilter) query() string {
	q := url.Values{}
	for key, value := range f.Values() {
		if *value != "" {
			q.Set(key, *value)
		}
	}
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	return "/v1/connections?" + q.Encode()
}

// DefaultLimit is how many connections are listed when no limit is given.
const DefaultLimit = 100

// Connections lists the connection table.
func (c *Client) Connections(ctx context.Context, f ConnectionFilter) (Connections, error) {
	v, err := get[Connections](ctx, c, GatewaydSocket, f.query())
	if err == nil && v.Error != "" {
		err = &Error{Message: v.Error}
	}
	return v, err
}

// EachConnection calls each for one connection after the other, as they come, and gives how many match. No more than one is
// in memory.
func (c *Client) EachConnection(ctx context.Context, f ConnectionFilter, each func(Connection) error) (matching int, err error) {
	r, err := c.do(ctx, GatewaydSocket, http.MethodGet, f.query(), nil)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	var end struct {
		Matching int    `json:"matching"`
		Error    string `json:"error"`
	}
	dec := json.NewDecoder(r)
	if err = skip(dec, json.Delim('{'), "connections", json.Delim('[')); err == nil {
		for dec.More() {
			var one Connection
			if err = dec.Decode(&one); err != nil {
				break
			}
			if err := each(one); err != nil {
				return 0, err
			}
		}
	}
	if err == nil {
		err = skip(dec, json.Delim(']'), "matching")
	}
	if err == nil {
		err = dec.Decode(&end.Matching)
	}
	for err == nil && dec.More() {
		var key string
		if err = dec.Decode(&key); err == nil {
			err = dec.Decode(&end.Error)
		}
	}
	if err != nil {
		return 0, c.explain(ctx, GatewaydSocket, fmt.Errorf("read the answer: %w", err))
	}
	if end.Error != "" {
		return end.Matching, &Error{Message: end.Error}
	}
	return end.Matching, nil
}

// skip reads tokens that have to come.
func skip(dec *json.Decoder, want ...json.Token) error {
	for _, w := range want {
		if got, err := dec.Token(); err != nil || got != w {
			return fmt.Errorf("%v instead of %v: %w", got, w, err)
		}
	}
	return nil
}

// ConnectionCount is the size of the connection table.
func (c *Client) ConnectionCount(ctx context.Context) (ConnectionCount, error) {
	return get[ConnectionCount](ctx, c, GatewaydSocket, "/v1/connections/count")
}

// Services are those the supervisor keeps running.
func (c *Client) Services(ctx context.Context) ([]supervise.ServiceStatus, error) {
	r, err := get[supervise.ServicesReply](ctx, c, InitSocket, "/v1/services")
	return r.Services, err
}

// RestartService ends a service and starts it again.
func (c *Client) RestartService(ctx context.Context, name string) error {
	return c.call(ctx, InitSocket, http.MethodPost, "/v1/services/"+url.PathEscape(name)+"/restart", nil, nil)
}

// Shutdown ends the machine's work: supervise.Poweroff or supervise.Reboot.
func (c *Client) Shutdown(ctx context.Context, a supervise.Action) error {
	return c.call(ctx, InitSocket, http.MethodPost, "/v1/shutdown", supervise.ShutdownRequest{Action: a}, nil)
}

// JournalQuery chooses lines of the journal. The zero value means all there are.
type JournalQuery struct {
	Since   uint64 // lines after this one
	Service string
	Follow  bool // go on with new lines until ctx ends
}

// Journal hands the lines to line, oldest first, until there are no more, ctx ends or line gives an error.
func (c *Client) Journal(ctx context.Context, q JournalQuery, line func(supervise.Entry) error) error {
	v := url.Values{"since": {strconv.FormatUint(q.Since, 10)}}
	if q.Service != "" {
		v.Set("service", q.Service)
	}
	if q.Follow {
		v.Set("follow", "1")
	}
	r, err := c.do(ctx, InitSocket, http.MethodGet, "/v1/journal?"+v.Encode(), nil)
	if err != nil {
		return err
	}
	defer r.Close()
	for dec := json.NewDecoder(r); ; {
		var e supervise.Entry
		if err := dec.Decode(&e); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return c.explain(ctx, InitSocket, fmt.Errorf("read the journal: %w", err))
		}
		if err := line(e); err != nil {
			return err
		}
	}
}
