package supervise

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// Action is what POST /v1/shutdown asks for.
type Action string

// Actions of POST /v1/shutdown.
const (
	Poweroff Action = "poweroff"
	Reboot   Action = "reboot"
)

// ServicesReply is the body of GET /v1/services.
type ServicesReply struct {
	Services []ServiceStatus `json:"services"`
}

// ShutdownRequest is the body of POST /v1/shutdown.
type ShutdownRequest struct {
	Action Action `json:"action"`
}

// ErrorReply is the body of every answer that is not 2xx.
type ErrorReply struct {
	Error string `json:"error"`
}

// Handler serves the API:
//
//	GET  /v1/services                     ServicesReply
//	POST /v1/services/{name}/restart      204
//	GET  /v1/journal?since=SEQ&service=NAME&follow=1   one Entry a line
//	POST /v1/shutdown                     ShutdownRequest, 202
func (s *Supervisor) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/services", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(ServicesReply{Services: s.Services()})
	})
	mux.HandleFunc("POST /v1/services/{name}/restart", func(w http.ResponseWriter, req *http.Request) {
		if err := s.Restart(req.PathValue("name")); err != nil {
			fail(w, http.StatusNotFound, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /v1/journal", s.serveJournal)
	mux.HandleFunc("POST /v1/shutdown", s.serveShutdown)
	mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) {
		fail(w, http.StatusNotFound, fmt.Errorf("%s %s is not part of this API", req.Method, req.URL.Path))
	})
	return mux
}

func (s *Supervisor) serveJournal(w http.ResponseWriter, req *http.Request) {
	q := req.URL.Query()
	var seq uint64
	if v := q.Get("since"); v != "" {
		var err error
		if seq, err = strconv.ParseUint(v, 10, 64); err != nil {
			fail(w, http.StatusBadRequest, fmt.Errorf("since=%q is not a sequence number", v))
			return
		}
	}
	w.Header().Set("Content-Type", "application/jsonl")
	enc := json.NewEncoder(w)
	if q.Get("follow") != "1" {
		es, _ := s.journal.Since(seq, q.Get("service"))
		for _, e := range es {
			if enc.Encode(e) != nil {
				return
			}
		}
		return
	}
	rc := http.NewResponseController(w)
	rc.Flush() // the client sees the header before the first line
	s.journal.Follow(req.Context(), seq, q.Get("service"), func(e Entry) error {
		if err := enc.Encode(e); err != nil {
			return err
		}
		return rc.Flush()
	})
}

func (s *Supervisor) serveShutdown(w http.ResponseWriter, req *http.Request) {
	var body ShutdownRequest
	dec := json.NewDecoder(io.LimitReader(req.Body, 4096))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&body); err != nil {
		fail(w, http.StatusBadRequest, fmt.Errorf("read the request: %w", err))
		return
	}
	switch {
	case body.Action != Poweroff && body.Action != Reboot:
		fail(w, http.StatusBadRequest, fmt.Errorf("action %q is neither %q nor %q", body.Action, Poweroff, Reboot))
		return
	case s.shutdown == nil:
		fail(w, http.StatusNotImplemented, errors.New("this supervisor is not PID 1 and does not control the machine's power: stop it with SIGTERM"))
		return
	}
	if err := s.shutdown(body.Action); err != nil {
		fail(w, http.StatusConflict, err)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

func fail(w http.ResponseWriter, code int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(ErrorReply{Error: err.Error()})
}
