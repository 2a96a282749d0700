package had

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/ha/cluster"
	"github.com/twinkeep/twinkeep/ha/member"
)

// order serves one of the operator's orders.
func (d *daemon) order(give func(*member.Member, *http.Request) (member.Reply, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		m, _, problem := d.current()
		if m == nil {
			api.Reply(w, nil, &api.Error{Status: http.StatusConflict, Message: "this member is DOWN: " + problem, Hint: "fix the node file with: node edit"})
			return
		}
		reply, err := give(m, r)
		if err == nil && !reply.OK {
			err = &api.Error{Status: http.StatusConflict, Message: reply.Message}
		}
		api.Reply(w, api.Message{Message: reply.Message}, err)
	}
}

// body reads a request's JSON, which may be missing.
func body(r *http.Request, v any) error {
	dec := json.NewDecoder(io.LimitReader(r.Body, 64<<10))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil && !errors.Is(err, io.EOF) {
		return &api.Error{Status: http.StatusBadRequest, Message: "read the request: " + err.Error()}
	}
	return nil
}

func (d *daemon) activate(m *member.Member, r *http.Request) (member.Reply, error) {
	var a api.Activate
	if err := body(r, &a); err != nil {
		return member.Reply{}, err
	}
	return m.Activate(a.Force)
}

// watch changes how an interface is used.
func watch(m *member.Member, r *http.Request) (member.Reply, error) {
	var w api.Watch
	if err := body(r, &w); err != nil {
		return member.Reply{}, err
	}
	if w.Heartbeat == nil && w.Monitor == nil {
		return member.Reply{}, &api.Error{Status: http.StatusBadRequest, Message: "say heartbeat or monitor"}
	}
	return m.Watch(w.Interface, w.Heartbeat, w.Monitor)
}

// priority puts a priority that the node file has by now in force.
func priority(m *member.Member, r *http.Request) (member.Reply, error) {
	var p api.Priority
	if err := body(r, &p); err != nil {
		return member.Reply{}, err
	}
	if p.Member < 1 || p.Member > node.MaxMembers || p.Priority < 1 {
		return member.Reply{}, &api.Error{Status: http.StatusBadRequest, Message: fmt.Sprintf("member %d, priority %d: want 1..%d and 1..255", p.Member, p.Priority, node.MaxMembers)}
	}
	return member.Reply{OK: true, Message: fmt.Sprintf("member %d has priority %d now", p.Member, p.Priority)}, m.SetPriority(p.Member, p.Priority)
}

func (d *daemon) deactivate(m *member.Member, r *http.Request) (member.Reply, error) {
	var f api.Failover
	if err := body(r, &f); err != nil {
		return member.Reply{}, err
	}
	to, err := d.memberID(f.To)
	if err == nil && f.For < 0 {
		err = &api.Error{Status: http.StatusBadRequest, Message: fmt.Sprintf("for: %v is in the past", time.Duration(f.For))}
	}
	if err != nil {
		return member.Reply{}, err
	}
	return m.Deactivate(to, time.Duration(f.For))
}

// remove forgets a member that the node file does not list any more.
func remove(m *member.Member, r *http.Request) (member.Reply, error) {
	var p api.Remove
	if err := body(r, &p); err != nil {
		return member.Reply{}, err
	}
	if p.Member < 1 || p.Member > node.MaxMembers {
		return member.Reply{}, &api.Error{Status: http.StatusBadRequest, Message: fmt.Sprintf("member %d: want 1..%d", p.Member, node.MaxMembers)}
	}
	return member.Reply{OK: true, Message: fmt.Sprintf("member %d is forgotten", p.Member)}, m.Remove(p.Member)
}

// memberID finds a member by name or number; an empty name is nobody.
func (d *daemon) memberID(name string) (uint8, error) {
	if name == "" {
		return 0, nil
	}
	_, n, _ := d.current()
	if n != nil && n.Cluster != nil {
		for _, m := range n.Cluster.Members {
			if m.Name == name || strconv.Itoa(int(m.ID)) == name {
				return m.ID, nil
			}
		}
	}
	return 0, &api.Error{Status: http.StatusBadRequest, Message: fmt.Sprintf("there is no member %q", name), Hint: "see cluster state"}
}

// deviceName is a word that reads well in a table.
var deviceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_. -]{0,31}$`)

func (d *daemon) reportDevice(m *member.Member, r *http.Request) (member.Reply, error) {
	var report api.DeviceReport
	if err := body(r, &report); err != nil {
		return member.Reply{}, err
	}
	name := r.PathValue("name")
	states := map[string]cluster.DeviceState{"ok": cluster.DeviceOK, "init": cluster.DeviceInit, "problem": cluster.DeviceProblem, "lockdown": cluster.DeviceLockdown}
	state, known := states[report.State]
	bad := func(format string, args ...any) (member.Reply, error) {
		return member.Reply{}, &api.Error{Status: http.StatusBadRequest, Message: fmt.Sprintf(format, args...)}
	}
	switch {
	case !deviceName.MatchString(name):
		return bad("device %q: a name has 1 to 32 letters, digits, spaces and . _ -", name)
	case !known:
		return bad("device %s: state %q is none of ok, init, problem, lockdown", name, report.State)
	case report.Timeout < 0 || time.Duration(report.Timeout) > 24*time.Hour:
		return bad("device %s: timeout %v is not between 0s and 24h", name, time.Duration(report.Timeout))
	case len(report.Text) > 200:
		return bad("device %s: a text of %d bytes, at most 200", name, len(report.Text))
	case report.Persist && name != api.AdminDown:
		return bad("device %s: only %s is kept across restarts; others report anew", name, api.AdminDown)
	}
	if report.Persist {
		if err := d.keepDown(report.Text); err != nil {
			return member.Reply{}, err
		}
	}
	timeout := time.Duration(report.Timeout)
	if timeout == 0 {
		timeout = d.timeoutOf(m, name)
	}
	return m.Report(cluster.Device{Name: name, State: state, Text: report.Text, Timeout: timeout})
}

// timeoutOf is a device's timeout so far.
func (d *daemon) timeoutOf(m *member.Member, name string) time.Duration {
	if s, err := m.Status(); err == nil {
		for _, v := range s.Devices {
			if v.Name == name {
				return time.Duration(v.Timeout)
			}
		}
	}
	return 0
}

func (d *daemon) unregisterDevice(m *member.Member, r *http.Request) (member.Reply, error) {
	if r.PathValue("name") == api.AdminDown {
		if err := os.Remove(d.downFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return member.Reply{}, fmt.Errorf("forget that this member is down: %w", err)
		}
	}
	return m.Unregister(r.PathValue("name"))
}

// downFile exists while an operator has this member down for good.
func (d *daemon) downFile() string { return filepath.Join(d.StateDir, "ha", "down") }

func (d *daemon) keepDown(text string) error {
	err := os.MkdirAll(filepath.Dir(d.downFile()), 0o755)
	if err == nil {
		err = os.WriteFile(d.downFile(), []byte(text+"\n"), 0o644)
	}
	if err != nil {
		return fmt.Errorf("remember that this member is down: %w", err)
	}
	return nil
}

// keptDown gives the device report of a member that an operator has taken down for good.
func (d *daemon) keptDown() (cluster.Device, bool) {
	text, err := os.ReadFile(d.downFile())
	if err != nil {
		return cluster.Device{}, false
	}
	return cluster.Device{Name: api.AdminDown, State: cluster.DeviceProblem, Text: firstLine(string(text))}, true
}

func firstLine(s string) string {
	for i, r := range s {
		if r == '\n' {
			return s[:i]
		}
	}
	return s
}
