package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/init/supervise"
	"github.com/twinkeep/twinkeep/init/unixhttp"
)

// serve puts a handler on a socket until the test ends.
func serve(t *testing.T, path string, h http.Handler) {
	t.Helper()
	ln, err := unixhttp.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- unixhttp.Serve(ctx, ln, h) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

func TestErrors(t *testing.T) {
	run := t.TempDir()
	ctx := context.Background()
	c := NewClient(run)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/activate", func(w http.ResponseWriter, _ *http.Request) {
		Reply(w, nil, &Error{Status: http.StatusConflict, Message: "this member is not fit", Hint: "see ha"})
	})
	mux.HandleFunc("POST /v1/deactivate", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "oops", 500) })
	mux.HandleFunc("POST /v1/reload", func(w http.ResponseWriter, _ *http.Request) {
		Reply(w, nil, fmt.Errorf("wrapped: %w", &Error{Status: 422, Message: "bad file", Problems: []node.Problem{{File: "f", Line: 3, Message: "m"}}}))
	})
	mux.HandleFunc("/", NotFound)
	serve(t, filepath.Join(run, HadSocket), mux)
	listening, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(run, InitSocket), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	listening.SetUnlinkOnClose(false)
	listening.Close()

	tests := []struct {
		name string
		call func() error
		want string
	}{
		{"sent", func() error { _, err := c.Activate(ctx, false); return err }, "this member is not fit: see ha"},
		{"not ours", func() error { _, err := c.Deactivate(ctx); return err }, "POST /v1/deactivate: 500 Internal Server Error"},
		{"not there", func() error { _, err := c.HA(ctx); return err }, "GET /v1/status is not part of this API: are the client and the daemon of one version?"},
		{"no socket", func() error { _, err := c.Node(ctx); return err },
			"gatewayd does not answer: there is no " + run + "/gatewayd.sock: it is not running; see log, then service restart gatewayd"},
		{"nobody listens", func() error { _, err := c.Services(ctx); return err },
			"the supervisor does not answer: nobody listens on " + run + "/init.sock: is this the right --run directory? Start a member with: twinkeep run"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.call()
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want an *Error", err)
			}
			if diff := cmp.Diff(tt.want, e.Error()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	_, err = c.ReloadHA(ctx)
	var e *Error
	if !errors.As(err, &e) || len(e.Problems) != 1 || e.Problems[0].Line != 3 {
		t.Errorf("problems are lost: %v", err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := c.HA(cancelled); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestSlow(t *testing.T) {
	run := t.TempDir()
	serve(t, filepath.Join(run, HadSocket), http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err := NewClient(run).HA(ctx)
	want := "had does not answer: no answer in time on " + run + "/had.sock: see log, then service restart had"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestJournal(t *testing.T) {
	run := t.TempDir()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/journal", func(w http.ResponseWriter, r *http.Request) {
		if got := r.URL.RawQuery; got != "follow=1&service=had&since=7" {
			t.Errorf("query %s", got)
		}
		for i := range uint64(3) {
			json.NewEncoder(w).Encode(supervise.Entry{Seq: 8 + i, Service: "had", Line: "line"})
			http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
	})
	serve(t, filepath.Join(run, InitSocket), mux)
	ctx, cancel := context.WithCancel(context.Background())
	var seqs []uint64
	err := NewClient(run).Journal(ctx, JournalQuery{Since: 7, Service: "had", Follow: true}, func(e supervise.Entry) error {
		if seqs = append(seqs, e.Seq); len(seqs) == 3 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff([]uint64{8, 9, 10}, seqs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
