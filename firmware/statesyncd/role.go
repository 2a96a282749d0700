package statesyncd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/ha/statesync"
	"github.com/twinkeep/twinkeep/init/unixhttp"
)

// Times of talking to had.
const (
	// roleEvery is how often had is asked for the role. Nothing waits for the answer: what packets do is told at once
	// by whoever sees them, and a takeover needs no word of had here.
	roleEvery = 100 * time.Millisecond
	// roleSoon is the least time between two questions when packets show that the role may have changed.
	roleSoon    = 10 * time.Millisecond
	roleTimeout = time.Second
	// reportEvery is how often had is told; it takes three seconds of silence for not in sync.
	reportEvery = time.Second
)

// Cluster is had, as state sync sees it.
type Cluster interface {
	Status(context.Context) (member.Status, error)
	// Report tells whether this member is in sync, and why or why not.
	Report(context.Context, api.SyncReport) error
}

// hadClient asks had over one kept connection.
type hadClient struct{ http http.Client }

func newHadClient(runDir string) *hadClient {
	path := filepath.Join(runDir, api.HadSocket)
	return &hadClient{http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 2,
		DialContext:         unixhttp.Dial(path),
	}}}
}

func (h *hadClient) do(ctx context.Context, method, path string, body []byte, reply any) error {
	ctx, cancel := context.WithTimeout(ctx, roleTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://had"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := h.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	defer io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	if reply == nil {
		return nil
	}
	return json.NewDecoder(io.LimitReader(resp.Body, 4<<20)).Decode(reply)
}

// Status implements Cluster.
func (h *hadClient) Status(ctx context.Context) (s member.Status, err error) {
	return s, h.do(ctx, http.MethodGet, "/v1/status", nil, &s)
}

// Report implements Cluster.
func (h *hadClient) Report(ctx context.Context, r api.SyncReport) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return h.do(ctx, http.MethodPost, "/v1/sync", b, nil)
}

// report is what had was told last.
type report struct {
	role   statesync.Role
	inSync bool
	text   string
}

// roleOf reads the role from had's status.
func roleOf(s *member.Status) statesync.Role {
	r := statesync.Role{Known: true, Term: s.Term, Holder: strings.HasPrefix(s.State, "ACTIVE")}
	if !r.Holder && s.Holder != s.Member {
		r.Other = s.Holder
	}
	return r
}

// watchRole asks had for the role until ctx ends.
func (c *core) watchRole(ctx context.Context) {
	had := newHadClient(c.RunDir)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var role statesync.Role
	var heard time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-c.roleNow:
		}
		s, err := had.Status(ctx)
		said := ""
		switch {
		case err == nil:
			role, heard = roleOf(&s), time.Now()
		case time.Since(heard) > roleTimeout:
			role, said = statesync.Role{}, err.Error()
		}
		c.do(ctx, func() {
			c.roleError = said
			if role != c.report.role {
				c.report.role = role
				c.machine.SetRole(c.now(), role)
				c.noteSync()
			}
		})
		select {
		case <-ctx.Done():
			return
		case <-time.After(roleSoon):
		}
		timer.Reset(roleEvery)
	}
}

// noteSync wakes the reporter when there is something new to tell.
func (c *core) noteSync() {
	if ok, text := c.machine.InSync(); ok != c.report.inSync {
		c.report.inSync, c.report.text = ok, text
		poke(c.sayNow)
	}
}

// reportSync tells had until ctx ends, and last that this member is no longer in sync by its own word.
func (c *core) reportSync(ctx context.Context) {
	had := newHadClient(c.RunDir)
	timer := time.NewTimer(0)
	defer timer.Stop()
	failed := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-c.sayNow:
		}
		var r api.SyncReport
		if !c.do(ctx, func() { r.InSync, r.Text = c.machine.InSync() }) {
			return
		}
		err := had.Report(ctx, r)
		if err != nil && !failed && !errors.Is(err, context.Canceled) {
			c.Options.Log.Info("had was not told whether this member is in sync", "err", err)
		}
		failed = err != nil
		timer.Reset(reportEvery)
	}
}
