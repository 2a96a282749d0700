package agent

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/twinkeep/twinkeep/tools/lab/probe"
)

// MaxLine is the longest line in either direction, in bytes with its newline.
const MaxLine = 1 << 20

// Request asks for one method.
type Request struct {
	ID     uint64          `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params,omitempty"`
}

// Response answers the request with the same ID. Error is empty when it went well. ID 0 answers a line that was
// no request.
type Response struct {
	ID     uint64          `json:"id"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  string          `json:"error,omitempty"`
}

// UptimeResult is the answer of "uptime".
type UptimeResult struct {
	Uptime time.Duration `json:"uptime"` // ns since the kernel started, CLOCK_BOOTTIME
}

// HTTPParams asks for a request to a server on a Unix socket of the guest.
type HTTPParams struct {
	Socket string `json:"socket"` // e.g. /run/twinkeep/had.sock
	Method string `json:"method"`
	Path   string `json:"path"`
	Body   string `json:"body,omitempty"`
}

// HTTPResult is its answer, with at most 512 KiB of body.
type HTTPResult struct {
	Status int    `json:"status"`
	Body   string `json:"body"`
}

// ExecParams runs a program. Timeout is 10 s when zero, at most 10 min; the program is killed then.
type ExecParams struct {
	Argv    []string      `json:"argv"`
	Stdin   string        `json:"stdin,omitempty"`
	Timeout time.Duration `json:"timeout,omitempty"` // ns
}

// ExecResult is how it ended. Exit is -1 when a signal ended it. At most 256 KiB of each stream are kept.
type ExecResult struct {
	Exit   int    `json:"exit"`
	Stdout string `json:"stdout"`
	Stderr string `json:"stderr"`
	Note   string `json:"note,omitempty"` // e.g. that it was killed
}

// FileParams names a file.
type FileParams struct {
	Path string `json:"path"`
}

// FileResult is a file or, from "stat", only its size. At most 512 KiB are read.
type FileResult struct {
	Size int64  `json:"size"`
	Data []byte `json:"data,omitempty"`
}

// EchoParams starts an echo server.
type EchoParams struct {
	Addr netip.AddrPort `json:"addr"`
}

// Handle names a running probe or echo server.
type Handle struct {
	Handle int `json:"handle"`
}

// Started is the answer of every method that starts one.
type Started struct {
	Handle int            `json:"handle"`
	Addr   netip.AddrPort `json:"addr,omitzero"` // of a server
}

// None is the params or result of methods that have none.
type None struct{}

// Methods. Those of probes and echo servers take probe.UDPConfig, probe.TCPConfig, EchoParams or Handle.
const (
	MethodPing      = "ping"
	MethodUptime    = "uptime"
	MethodHTTP      = "http"
	MethodExec      = "exec"
	MethodReadFile  = "readfile"
	MethodStat      = "stat"
	MethodTable     = "nft-table"
	MethodUDPEcho   = "udp-echo"
	MethodTCPEcho   = "tcp-echo"
	MethodEchoState = "echo-report"
	MethodUDPStart  = "udp-probe-start"
	MethodUDPReport = "udp-probe-report"
	MethodUDPStop   = "udp-probe-stop"
	MethodTCPStart  = "tcp-probe-start"
	MethodTCPReport = "tcp-probe-report"
	MethodTCPStop   = "tcp-probe-stop"
)

// Reports that the methods give back, named here so that the protocol can be read in one place.
type (
	udpReport  = probe.UDPReport
	tcpReport  = probe.TCPReport
	echoReport = probe.EchoReport
)

// errLongLine is returned for a line over MaxLine; the rest of the line has been read away.
var errLongLine = errors.New("line is longer than 1 MiB")

// readLine reads one line without its newline. After errLongLine the next line can be read.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	long := false
	for {
		part, err := r.ReadSlice('\n')
		if !long {
			line = append(line, part...)
			if len(line) > MaxLine {
				line, long = nil, true
			}
		}
		switch {
		case err == nil && long:
			return nil, errLongLine
		case err == nil:
			return line[:len(line)-1], nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// parseRequest reads a request from a line.
func parseRequest(line []byte) (Request, error) {
	var r Request
	if err := json.Unmarshal(line, &r); err != nil {
		return Request{}, fmt.Errorf("not a request: %w", err)
	}
	if r.Method == "" {
		return Request{}, errors.New("not a request: no method")
	}
	return r, nil
}

// writeLine writes v as one line in one Write.
func writeLine(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b)+1 > MaxLine {
		return errLongLine
	}
	_, err = w.Write(append(b, '\n'))
	return err
}
