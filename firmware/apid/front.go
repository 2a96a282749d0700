package apid

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"os"
	"path"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/jail"
	"github.com/twinkeep/twinkeep/init/unixhttp"
)

// Bounds of the front.
const (
	frontMemory  = 64 << 20 // bytes that the runtime tries to stay below
	frontFiles   = 256
	frontThreads = 256
	maxHeader    = 16 << 10
	headerTime   = 10 * time.Second // for handshake and header
	bodyTime     = 2 * time.Minute
	answerTime   = 5 * time.Minute
	idleTime     = 30 * time.Second
)

// Front is the process that speaks HTTPS with the network. The listening socket is at descriptor 3. It returns when the keeper is gone.
func Front(root string) error {
	file := os.NewFile(3, "listener")
	ln, err := net.FileListener(file)
	file.Close()
	if err != nil {
		return fmt.Errorf("apid front: the socket: %w", err)
	}
	if err := jail.Enter(root, jail.Limits{Files: frontFiles, Threads: frontThreads}); err != nil {
		return fmt.Errorf("apid front: %w", err)
	}
	debug.SetMemoryLimit(frontMemory)
	// The socket is all that is in the root.
	s := newSpeaker(unixhttp.Dial("/" + socketName))
	cert, err := s.certificate()
	if err != nil {
		return fmt.Errorf("apid front: %w", err)
	}
	return s.server(cert).ServeTLS(&door{Listener: ln, speaker: s}, "", "")
}

// speaker is the front.
type speaker struct {
	keeper *http.Transport

	mu    sync.Mutex
	crowd *crowd
	conns map[uint64]net.Conn
}

func newSpeaker(dial func(context.Context, string, string) (net.Conn, error)) *speaker {
	return &speaker{
		keeper: &http.Transport{DialContext: dial, MaxConnsPerHost: 32, MaxIdleConnsPerHost: 4, ResponseHeaderTimeout: bodyTime, DisableCompression: true},
		crowd:  newCrowd(), conns: make(map[uint64]net.Conn),
	}
}

// ask asks the keeper for something of the front's own.
func (s *speaker) ask(method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequest(method, "http://keeper"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := s.keeper.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 16<<10))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("the keeper says %s: %s", resp.Status, data)
	}
	return data, err
}

// remoteKey is the key, which only the keeper has.
type remoteKey struct {
	*speaker
	public crypto.PublicKey
}

func (k remoteKey) Public() crypto.PublicKey { return k.public }

func (k remoteKey) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	return k.ask(http.MethodPost, "/sign", digest)
}

func (s *speaker) certificate() (tls.Certificate, error) {
	der, err := s.ask(http.MethodGet, "/certificate", nil)
	if err != nil {
		return tls.Certificate{}, err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: remoteKey{s, c.PublicKey}, Leaf: c}, nil
}

// connKey finds the guest of a request.
type connKey struct{}

func (s *speaker) server(cert tls.Certificate) *http.Server {
	return &http.Server{
		Handler: s.handler(), ErrorLog: silent,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}},
		// HTTP/2 brings streams, of which each is a request that is not counted by its connection.
		TLSNextProto:      map[string]func(*http.Server, *tls.Conn, http.Handler){},
		ReadHeaderTimeout: headerTime, ReadTimeout: bodyTime, WriteTimeout: answerTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if t, ok := c.(*tls.Conn); ok {
				if v, ok := t.NetConn().(*visitor); ok {
					return context.WithValue(ctx, connKey{}, v)
				}
			}
			return ctx
		},
	}
}

// passed are the headers that go on to the keeper.
var passed = []string{"Authorization", "Content-Type", "Accept"}

// handler passes requests on, written anew: the keeper parses nothing that a stranger wrote, and gets nothing that is too large.
func (s *speaker) handler() http.Handler {
	proxy := s.proxy()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := r.URL.Path; p == "" || p[0] != '/' || path.Clean(p) != p { // nobody walks about in the keeper's paths
			w.Header().Set("Connection", "close")
			api.Reply(w, nil, &api.Error{Status: http.StatusBadRequest, Message: "this is no path of the API"})
			return
		}
		if r.ContentLength > maxBody { // here, where none of it has been asked for yet: who has to send it first may lose the answer
			w.Header().Set("Connection", "close")
			api.Reply(w, nil, tooLarge(maxBody))
			return
		}
		proxy.ServeHTTP(w, r)
	})
}

func (s *speaker) proxy() http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", "keeper", "keeper"
			r.Out.URL.Path, r.Out.URL.RawPath = Prefix+r.In.URL.Path, ""
			r.Out.Header = http.Header{}
			for _, name := range passed {
				if v := r.In.Header.Get(name); v != "" {
					r.Out.Header.Set(name, v)
				}
			}
			if source, err := netip.ParseAddrPort(r.In.RemoteAddr); err == nil {
				r.Out.Header.Set(headerSource, source.Addr().Unmap().WithZone("").String())
			}
			if local, ok := r.In.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok {
				r.Out.Header.Set(headerLocal, local.AddrPort().Addr().Unmap().WithZone("").String())
			}
		},
		Transport: s.keeper, FlushInterval: -1, ErrorLog: silent,
		ModifyResponse: func(r *http.Response) error {
			switch r.StatusCode {
			case http.StatusUnauthorized, http.StatusTooManyRequests, http.StatusMisdirectedRequest, http.StatusBadRequest:
				r.Header.Set("Connection", "close")
			default:
				if v, ok := r.Request.Context().Value(connKey{}).(*visitor); ok {
					s.mu.Lock()
					s.crowd.proved(v.id)
					s.mu.Unlock()
				}
			}
			r.Header.Set("Cache-Control", "no-store")
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			w.Header().Set("Connection", "close")
			text := "the API does not answer"
			if strings.Contains(err.Error(), "too large") {
				text = "the request is too large"
			}
			api.Reply(w, nil, &api.Error{Status: http.StatusBadGateway, Message: text})
		},
	}
}

// door lets connections in as long as there is room.
type door struct {
	net.Listener
	*speaker
}

func (d *door) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if v := d.enter(c); v != nil {
			return v, nil
		}
		c.Close()
	}
}

func (s *speaker) enter(c net.Conn) *visitor {
	remote, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id, leave, ok := s.crowd.enter(remote.AddrPort().Addr())
	if !ok {
		return nil
	}
	if old := s.conns[leave]; old != nil {
		old.Close()
		delete(s.conns, leave)
	}
	s.conns[id] = c
	return &visitor{Conn: c, id: id, speaker: s}
}

// visitor is a connection that was let in.
type visitor struct {
	net.Conn
	*speaker
	id uint64
}

func (v *visitor) Close() error {
	v.mu.Lock()
	v.crowd.left(v.id)
	delete(v.conns, v.id)
	v.mu.Unlock()
	return v.Conn.Close()
}
