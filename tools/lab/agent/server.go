package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/twinkeep/twinkeep/tools/lab/probe"
)

const (
	maxRunning = 32 // requests at a time
	maxHandles = 16 // probes and servers at a time
)

// Server answers requests. Probes and echo servers live in it, not in the connection: a client may go and come
// back. The zero value is ready.
type Server struct {
	mu      sync.Mutex
	next    int
	handles map[int]any // *probe.UDPProbe, *probe.TCPProbe, *probe.UDPEcho or *probe.TCPEcho
}

// Serve answers the requests of one connection until it ends, and waits for those that still run. io.EOF is no
// error.
func (s *Server) Serve(rw io.ReadWriter) error {
	ctx, cancel := context.WithCancel(context.Background())
	var (
		wg    sync.WaitGroup
		write sync.Mutex
		slots = make(chan struct{}, maxRunning)
		r     = bufio.NewReader(rw)
	)
	defer wg.Wait()
	defer cancel()
	answer := func(resp Response) {
		write.Lock()
		defer write.Unlock()
		if err := writeLine(rw, resp); errors.Is(err, errLongLine) {
			// An error here means that the host is gone; the reader sees it too.
			_ = writeLine(rw, Response{ID: resp.ID, Error: "the answer is longer than 1 MiB: ask for less"})
		}
	}
	for {
		line, err := readLine(r)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, errLongLine):
			answer(Response{Error: err.Error()})
			continue
		case err != nil:
			return err
		case len(line) == 0:
			continue
		}
		req, err := parseRequest(line)
		if err != nil {
			answer(Response{Error: err.Error()})
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			answer(s.handle(ctx, req))
		})
	}
}

func (s *Server) handle(ctx context.Context, req Request) Response {
	result, err := s.dispatch(ctx, req)
	if err != nil {
		return Response{ID: req.ID, Error: req.Method + ": " + err.Error()}
	}
	b, err := json.Marshal(result)
	if err != nil {
		return Response{ID: req.ID, Error: req.Method + ": " + err.Error()}
	}
	return Response{ID: req.ID, Result: b}
}

// with decodes the params of a request and calls a method with them.
func with[P, R any](req Request, f func(P) (R, error)) (any, error) {
	var p P
	if len(req.Params) > 0 {
		if err := json.Unmarshal(req.Params, &p); err != nil {
			return nil, fmt.Errorf("params: %w", err)
		}
	}
	return f(p)
}

func (s *Server) dispatch(ctx context.Context, req Request) (any, error) {
	switch req.Method {
	case MethodPing:
		return None{}, nil
	case MethodUptime:
		return uptime()
	case MethodHTTP:
		return with(req, func(p HTTPParams) (HTTPResult, error) { return httpRequest(ctx, p) })
	case MethodExec:
		return with(req, func(p ExecParams) (ExecResult, error) { return run(ctx, p) })
	case MethodReadFile:
		return with(req, readFile)
	case MethodStat:
		return with(req, statFile)
	case MethodTable:
		return with(req, readTable)
	case MethodUDPEcho:
		return with(req, func(p EchoParams) (Started, error) {
			return start(s, func() (*probe.UDPEcho, error) { return probe.ServeUDP(p.Addr, probe.Priority{}) })
		})
	case MethodTCPEcho:
		return with(req, func(p EchoParams) (Started, error) {
			return start(s, func() (*probe.TCPEcho, error) { return probe.ServeTCP(p.Addr) })
		})
	case MethodEchoState:
		return with(req, s.echoReport)
	case MethodUDPStart:
		return with(req, func(p probe.UDPConfig) (Started, error) {
			return start(s, func() (*probe.UDPProbe, error) { return probe.StartUDP(p) })
		})
	case MethodUDPReport:
		return with(req, func(h Handle) (udpReport, error) {
			p, err := find[*probe.UDPProbe](s, h)
			if err != nil {
				return udpReport{}, err
			}
			return p.Report(), nil
		})
	case MethodUDPStop:
		return with(req, func(h Handle) (udpReport, error) {
			p, err := find[*probe.UDPProbe](s, h)
			if err != nil {
				return udpReport{}, err
			}
			defer s.forget(h)
			return p.Stop(), nil
		})
	case MethodTCPStart:
		return with(req, func(p probe.TCPConfig) (Started, error) {
			return start(s, func() (*probe.TCPProbe, error) { return probe.StartTCP(p) })
		})
	case MethodTCPReport:
		return with(req, func(h Handle) (tcpReport, error) {
			p, err := find[*probe.TCPProbe](s, h)
			if err != nil {
				return tcpReport{}, err
			}
			return p.Report(), nil
		})
	case MethodTCPStop:
		return with(req, func(h Handle) (tcpReport, error) {
			p, err := find[*probe.TCPProbe](s, h)
			if err != nil {
				return tcpReport{}, err
			}
			defer s.forget(h)
			return p.Stop(), nil
		})
	}
	return nil, errors.New("no such method")
}

// start starts a probe or a server and keeps it under a new handle.
func start[T any](s *Server, open func() (T, error)) (Started, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.handles) >= maxHandles {
		return Started{}, fmt.Errorf("%d probes and servers are open: stop one first", len(s.handles))
	}
	v, err := open()
	if err != nil {
		return Started{}, err
	}
	if s.handles == nil {
		s.handles = map[int]any{}
	}
	s.next++
	s.handles[s.next] = v
	out := Started{Handle: s.next}
	switch v := any(v).(type) {
	case *probe.UDPEcho:
		out.Addr = v.Addr()
	case *probe.TCPEcho:
		out.Addr = v.Addr()
	}
	return out, nil
}

func find[T any](s *Server, h Handle) (T, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.handles[h.Handle].(T)
	if !ok {
		return v, fmt.Errorf("no probe of this kind has handle %d", h.Handle)
	}
	return v, nil
}

func (s *Server) forget(h Handle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.handles, h.Handle)
}

func (s *Server) echoReport(h Handle) (echoReport, error) {
	s.mu.Lock()
	v := s.handles[h.Handle]
	s.mu.Unlock()
	e, ok := v.(interface{ Report() probe.EchoReport })
	if !ok {
		return echoReport{}, fmt.Errorf("no echo server has handle %d", h.Handle)
	}
	return e.Report(), nil
}
