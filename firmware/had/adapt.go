package had

import (
	"errors"
	"net/http"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/ha/member"
)

// adapt makes the running member take in what is in force now, if that is VIPs and priorities only. With an error, it needs
// another life for it, which is for the caller to ask for.
func (d *daemon) adapt(m *member.Member, _ *http.Request) (r member.Reply, err error) {
	d.adapting.Lock()
	defer d.adapting.Unlock()
	n, _, err := d.load()
	if err != nil {
		return r, err
	}
	if n.Cluster == nil {
		return r, errors.New("the node file has no cluster section any more")
	}
	cfg, late, err := config(n)
	if err != nil {
		return r, err
	}
	done := false
	if len(late) == 0 {
		done, err = m.Adapt(cfg)
	}
	if err == nil && !done {
		err = &api.Error{Status: http.StatusConflict, Message: "more than VIPs and priorities has changed: a restart of had takes it in"}
	}
	if err != nil {
		return r, err
	}
	d.mu.Lock()
	if d.member == m {
		d.node = n
	}
	d.mu.Unlock()
	return member.Reply{OK: true, Message: "taken in without a restart"}, nil
}
