package qemu

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const greeting = `{"QMP": {"version": {}, "capabilities": []}}` + "\n"

// script is a QEMU that answers each line with the next text and keeps what it was asked.
func script(t *testing.T, hello string, answers ...string) (*QMP, <-chan []string) {
	t.Helper()
	here, there := net.Pipe()
	asked := make(chan []string, 1)
	go func() {
		var lines []string
		defer func() { there.Close(); asked <- lines }()
		if _, err := io.WriteString(there, hello); err != nil {
			return
		}
		r := bufio.NewReader(there)
		for _, a := range answers {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			lines = append(lines, strings.TrimSpace(line))
			if _, err := io.WriteString(there, a+"\n"); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { here.Close() })
	return newQMP(here), asked
}

func TestQMP(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	q, asked := script(t, greeting, `{"return": {}}`,
		`{"event": "NIC_RX_FILTER_CHANGED", "data": {}}`+"\n"+`{"return": {}}`,
		`{"return": {"status": "running"}}`,
		`{"error": {"class": "DeviceNotFound", "desc": "Device 'G9' not found"}}`)
	if err := q.negotiate(ctx); err != nil {
		t.Fatal(err)
	}
	if err := q.SetLink(ctx, "G1", false); err != nil {
		t.Error(err)
	}
	if s, err := q.Status(ctx); err != nil || s != "running" {
		t.Errorf("%q, %v", s, err)
	}
	var refused *QMPError
	if err := q.SetLink(ctx, "G9", true); !errors.As(err, &refused) || refused.Class != "DeviceNotFound" {
		t.Errorf("error %v", err)
	}
	want := []string{`{"execute":"qmp_capabilities"}`, `{"execute":"set_link","arguments":{"name":"G1","up":false}}`,
		`{"execute":"query-status"}`, `{"execute":"set_link","arguments":{"name":"G9","up":true}}`}
	if diff := cmp.Diff(want, <-asked); diff != "" {
		t.Error(diff)
	}
}

func TestQMPTakesAnything(t *testing.T) {
	for _, tt := range []struct{ name, hello string }{
		{"nothing", ""}, {"text", "hello\n"}, {"no greeting", `{"return": {}}` + "\n"}, {"an endless message", `"` + strings.Repeat("x", maxQMP+10)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q, _ := script(t, tt.hello)
			if err := q.negotiate(t.Context()); err == nil {
				t.Error("no error")
			}
		})
	}
}

func FuzzQMP(f *testing.F) {
	f.Add([]byte(greeting + `{"return": {}}`))
	f.Add([]byte(greeting + `{"error": {"class": "x"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		here, there := net.Pipe()
		go func() {
			there.Write(b)
			there.SetDeadline(time.Now().Add(time.Second))
			io.Copy(io.Discard, there)
		}()
		go func() { time.Sleep(20 * time.Millisecond); there.Close() }()
		_ = newQMP(here).negotiate(t.Context())
		here.Close()
	})
}
