package agent

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/twinkeep/twinkeep/tools/lab/probe"
)

// pair is a client and a server joined by a pipe.
func pair(t *testing.T) *Client {
	t.Helper()
	here, there := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- new(Server).Serve(there) }()
	c, err := NewClient(here)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		if err := <-done; err != nil && !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("server: %v", err)
		}
	})
	return c
}

func TestMethods(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c := pair(t)

	if err := c.Ping(ctx); err != nil {
		t.Error(err)
	}
	if up, err := c.Uptime(ctx); err != nil || up <= 0 {
		t.Errorf("uptime %v, %v", up, err)
	}
	if b, err := c.ReadFile(ctx, "/proc/self/cmdline"); err != nil || len(b) == 0 {
		t.Errorf("readfile: %q, %v", b, err)
	}
	if n, err := c.Size(ctx, "/proc/self/exe"); err != nil || n < 1000 {
		t.Errorf("stat: %d, %v", n, err)
	}
	if _, err := c.ReadFile(ctx, "/no/such/file"); !errors.Is(err, ErrAgent) || !strings.Contains(err.Error(), "/no/such/file") {
		t.Errorf("error %v", err)
	}
	if err := c.Call(ctx, "juggle", None{}, nil); !errors.Is(err, ErrAgent) {
		t.Errorf("error %v", err)
	}
	if err := c.Call(ctx, MethodExec, "not an object", nil); !errors.Is(err, ErrAgent) {
		t.Errorf("error %v", err)
	}
}

func TestExec(t *testing.T) {
	c := pair(t)
	for _, tt := range []struct {
		name   string
		params ExecParams
		want   ExecResult
	}{
		{"output and exit code", ExecParams{Argv: []string{"sh", "-c", "echo out; echo err >&2; exit 3"}}, ExecResult{Exit: 3, Stdout: "out\n", Stderr: "err\n"}},
		{"stdin", ExecParams{Argv: []string{"cat"}, Stdin: "hello"}, ExecResult{Stdout: "hello"}},
		{"timeout", ExecParams{Argv: []string{"sleep", "60"}, Timeout: 50 * time.Millisecond}, ExecResult{Exit: -1, Note: "killed after 50ms"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			got, err := call[ExecResult](ctx, c, MethodExec, tt.params)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRequestsRunConcurrently(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c := pair(t)
	slow := make(chan error, 1)
	go func() {
		_, err := call[ExecResult](ctx, c, MethodExec, ExecParams{Argv: []string{"sleep", "60"}, Timeout: 2 * time.Second})
		slow <- err
	}()
	start := time.Now()
	if err := c.Ping(ctx); err != nil || time.Since(start) > time.Second {
		t.Errorf("ping beside a slow program: %v after %v", err, time.Since(start))
	}
	if err := <-slow; err != nil {
		t.Error(err)
	}
}

func TestHTTP(t *testing.T) {
	sock := filepath.Join(t.TempDir(), "had.sock")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	big := strings.Repeat("x", 100_000)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"state":"ACTIVE"}`) })
	mux.HandleFunc("POST /v1/echo", func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	mux.HandleFunc("GET /v1/big", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, big); io.WriteString(w, big) })
	mux.HandleFunc("GET /v1/huge", func(w http.ResponseWriter, _ *http.Request) {
		for range 10 {
			io.WriteString(w, big)
		}
	})
	srv := &http.Server{Handler: mux}
	go srv.Serve(l)
	defer srv.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c := pair(t)
	for _, tt := range []struct {
		method, path, body string
		want               HTTPResult
		err                bool
	}{
		{"GET", "/v1/status", "", HTTPResult{200, `{"state":"ACTIVE"}`}, false},
		{"POST", "/v1/echo", "hello", HTTPResult{200, "hello"}, false},
		{"GET", "/v1/big", "", HTTPResult{200, big + big}, false},
		{"GET", "/v1/huge", "", HTTPResult{}, true},
		{"GET", "/nowhere", "", HTTPResult{404, "404 page not found\n"}, false},
		{"GET", "/v1/ status", "", HTTPResult{}, true},
	} {
		got, err := c.HTTP(ctx, HTTPParams{Socket: sock, Method: tt.method, Path: tt.path, Body: tt.body})
		if (err != nil) != tt.err {
			t.Errorf("%s %s: %v", tt.method, tt.path, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Error(diff)
		}
	}
	var st struct{ State string }
	if err := c.GetJSON(ctx, sock, "/v1/status", &st); err != nil || st.State != "ACTIVE" {
		t.Errorf("%v, %v", st, err)
	}
}

func TestProbesThroughTheAgent(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c := pair(t)
	any4 := netip.MustParseAddrPort("127.0.0.1:0")
	udp, err := c.ServeUDP(ctx, any4)
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := c.ServeTCP(ctx, any4)
	if err != nil {
		t.Fatal(err)
	}
	up, err := c.StartUDP(ctx, probe.UDPConfig{Target: udp.Addr, Interval: 2 * time.Millisecond, Duration: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	tp, err := c.StartTCP(ctx, probe.TCPConfig{Target: tcp.Addr, Interval: 2 * time.Millisecond, Duration: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	if _, err := c.TCPReport(ctx, up.Handle); err == nil {
		t.Error("a UDP probe reports as a TCP probe")
	}
	ur, err := c.StopUDP(ctx, up.Handle)
	if err != nil || ur.Received == 0 || len(ur.Sources) != 1 {
		t.Errorf("UDP: %+v, %v", ur, err)
	}
	tr, err := c.StopTCP(ctx, tp.Handle)
	if err != nil || tr.Received == 0 || tr.Connects != 1 || tr.Resets != 0 {
		t.Errorf("TCP: %+v, %v", tr, err)
	}
	er, err := c.EchoReport(ctx, udp.Handle)
	if err != nil || er.Requests < ur.Received {
		t.Errorf("echo: %+v, %v", er, err)
	}
	if _, err := c.UDPReport(ctx, up.Handle); err == nil {
		t.Error("a stopped probe still has its handle")
	}
}

func TestServeTakesAnything(t *testing.T) {
	long := strings.Repeat("x", MaxLine+10)
	in := "\nnot json\n" + long + "\n{\"id\":3}\n{\"id\":4,\"method\":\"ping\"}\nhalf a li"
	var out bytes.Buffer
	if err := new(Server).Serve(struct {
		io.Reader
		io.Writer
	}{strings.NewReader(in), &out}); err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(got) != 4 || !strings.Contains(got[0], "not a request") || !strings.Contains(got[1], "1 MiB") ||
		!strings.Contains(got[2], "no method") || got[3] != `{"id":4,"result":{}}` {
		t.Errorf("answers %q", got)
	}
}

func FuzzServe(f *testing.F) {
	f.Add([]byte(`{"id":4,"method":"ping"}` + "\n"))
	f.Add([]byte(`{"id":4,"method":"udp-probe-report","params":{"handle":9}}` + "\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if bytes.Contains(b, []byte("exec")) || bytes.Contains(b, []byte("\\u")) {
			return // running what a fuzzer invents is not the test
		}
		var out bytes.Buffer
		if err := new(Server).Serve(struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(b), &out}); err != nil {
			t.Error(err)
		}
	})
}

func FuzzResponse(f *testing.F) {
	f.Add([]byte("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"))
	f.Add([]byte("HTTP/1.1 404 Not Found\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := readResponse(bytes.NewReader(b))
		if err != nil && r != (HTTPResult{}) {
			t.Error("a result and an error")
		}
		if _, err := readLine(bufio.NewReader(bytes.NewReader(b))); err == nil && !bytes.Contains(b, []byte("\n")) {
			t.Error("a line without an end")
		}
	})
}
