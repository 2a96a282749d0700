package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/twinkeep/twinkeep/firmware/peerapi"
	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
	"github.com/twinkeep/twinkeep/firmware/policy/registry"
)

// Paths of the member's own API, for its console. Errors are those of package peerapi: {"error": …, "hint": …}.
const (
	PathStatus  = "/v1/policy"         // GET: Status
	PathFile    = "/v1/policy/file"    // GET ?revision=N or ?digest=D: a bundle, also of what is unsynced
	PathInstall = "/v1/policy/install" // POST a bundle, or ?revision=N or ?digest=D of the history, or ?server=1: Report
	PathConfirm = "/v1/policy/confirm" // POST
	PathCancel  = "/v1/policy/cancel"  // POST: back to the policy before
	// The daemon serves these; the answer is {"message": …}.
	PathUninstall = "/v1/policy/uninstall" // POST: close this member
	PathRecover   = "/v1/policy/recover"   // POST: go through the recovery order now
	PathResume    = "/v1/policy/resume"    // POST: give up what never reached the peer
	maxBundle     = artifact.MaxDocument + 2<<20
	maxDrain      = 32 << 20
	maxFileParam  = 100
)

// HandleLocal serves the member's console and API. Whoever reaches it may change the policy: it belongs on a socket that
// only root opens.
func (n *Node) HandleLocal(mux *http.ServeMux) {
	n.init()
	mux.HandleFunc("GET "+PathStatus, func(w http.ResponseWriter, _ *http.Request) { peerapi.Reply(w, n.Status()) })
	mux.HandleFunc("GET "+PathFile, func(w http.ResponseWriter, r *http.Request) {
		a, err := n.stored(r)
		var b bytes.Buffer
		if err == nil {
			err = artifact.WriteBundle(&b, a)
		}
		if err != nil {
			refuse(w, http.StatusNotFound, err)
			return
		}
		w.Header().Set("Content-Type", "application/x-tar")
		w.Write(b.Bytes())
	})
	mux.HandleFunc("POST "+PathInstall, n.serveInstall)
	end := func(confirm bool) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if err := n.End(r.Context(), confirm, operator(r)); err != nil {
				refuse(w, http.StatusConflict, err)
				return
			}
			peerapi.Reply(w, n.Status())
		}
	}
	mux.HandleFunc("POST "+PathConfirm, end(true))
	mux.HandleFunc("POST "+PathCancel, end(false))
}

func refuse(w http.ResponseWriter, status int, err error) {
	peerapi.Refuse(w, &peerapi.Error{Message: err.Error(), Status: status})
}

// operator is who asks, for the log and for whoever comes second.
func operator(r *http.Request) string {
	name := r.URL.Query().Get("operator")
	if name == "" || len(name) > maxFileParam || !printable(name) {
		return "an operator"
	}
	return name
}

// stored loads the policy that a request names.
func (n *Node) stored(r *http.Request) (*artifact.Artifact, error) {
	q := r.URL.Query()
	if d := q.Get("digest"); d != "" {
		return n.store().Load(digest.Digest(d))
	}
	revision, err := strconv.ParseUint(q.Get("revision"), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("revision %.40q is not a number", q.Get("revision"))
	}
	var found []digest.Digest
	st := n.store().State()
	for _, e := range st.Entries {
		if e.Revision == revision {
			found = append(found, e.Digest)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("revision %d is not in the history of this member", revision)
	case 1:
		return n.store().Load(found[0])
	}
	return nil, fmt.Errorf("there are %d policies of revision %d: name one by its digest, %v", len(found), revision, found)
}

// published gets the newest policy of the management server.
func (n *Node) published(ctx context.Context) (*artifact.Artifact, error) {
	if n.Fetcher.Server == nil {
		return nil, errors.New("there is no management server in the settings: write " + registry.FileName + ", then node reload")
	}
	head, err := n.Fetcher.Server.Head(ctx)
	if err != nil {
		return nil, err
	}
	return n.Fetcher.Transfer.Get(ctx, n.Fetcher.Server, head.Digest)
}

func (n *Node) serveInstall(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	req := Request{Operator: operator(r), Partial: q.Get("partial") == "1", Again: q.Get("again") == "1"}
	var err error
	if c := q.Get("confirm"); c != "" {
		if req.Confirm, err = time.ParseDuration(c); err != nil {
			refuse(w, http.StatusBadRequest, fmt.Errorf("time to confirm %.40q: want e.g. 5m", c))
			return
		}
	}
	switch {
	case q.Get("server") == "1":
		req.Policy, err = n.published(r.Context())
	case q.Has("revision") || q.Has("digest"):
		req.Policy, err = n.stored(r)
	default:
		if req.Policy, err = artifact.ReadBundle(io.LimitReader(r.Body, maxBundle)); err != nil {
			io.Copy(io.Discard, io.LimitReader(r.Body, maxDrain)) // whoever still sends hears why only when he has sent it all
		}
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	report, err := n.Install(r.Context(), req)
	if err != nil {
		refuse(w, http.StatusConflict, err)
		return
	}
	peerapi.Reply(w, report)
}
