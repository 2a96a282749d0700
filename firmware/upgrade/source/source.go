// Package source opens upgrade files wherever they are: a file, a block device that one was written to, a web server, an OCI
// registry. None of those is trusted: the file is signed, and whoever reads it checks that before a byte of it is kept.
package source

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/firmware/policy/registry"
)

// Source is an upgrade file that is open.
type Source struct {
	io.ReadCloser
	// Size of the whole file; -1 when it is not known (a block device, a download without a length).
	Size int64
}

// Options of Open.
type Options struct {
	ConfigDir string // has the management server's settings, if there are any
	Board     string // chooses the file in an OCI artifact that has those of several boards
}

// silence is how long a server may say nothing.
const silence = 30 * time.Second

// Open opens a file or device by its name, http(s)://…, or oci://registry/repository:tag (oci+http:// without TLS).
func Open(ctx context.Context, name string, o Options) (*Source, error) {
	scheme, rest, remote := strings.Cut(name, "://")
	switch {
	case !remote:
		return file(name)
	case scheme == "http" || scheme == "https":
		return web(ctx, name)
	case scheme == "oci" || scheme == "oci+http":
		return artifact(ctx, rest, scheme == "oci+http", o)
	}
	return nil, fmt.Errorf("%s: %q is none of http, https, oci", name, scheme)
}

func file(name string) (*Source, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	switch {
	case st.Mode().IsRegular():
		return &Source{f, st.Size()}, nil
	case st.IsDir():
		f.Close()
		return nil, fmt.Errorf("%s is a folder, not an upgrade file", name)
	}
	return &Source{f, -1}, nil
}

func web(ctx context.Context, name string) (*Source, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, name, nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: anonymous()}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("%s: %s", name, resp.Status)
	}
	return &Source{watched(resp.Body), resp.ContentLength}, nil
}

// anonymous is a transport that gives nothing away. Where the system knows certificate authorities they count; an appliance
// has none, and often no clock, and there the signature of the file alone decides.
func anonymous() *http.Transport {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if pool, err := x509.SystemCertPool(); err != nil || pool.Equal(x509.NewCertPool()) {
		cfg.InsecureSkipVerify = true
	}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: cfg, DisableKeepAlives: true,
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: silence, MaxResponseHeaderBytes: 32 << 10,
	}
}

// settings are the management server's when ref is on it.
func settings(dir, host string) (registry.Config, bool) {
	if dir == "" {
		return registry.Config{}, false
	}
	c, err := registry.LoadConfig(filepath.Join(dir, registry.FileName))
	return c, err == nil && c.Address == host
}

// watch ends a transfer that stands still.
type watch struct {
	io.ReadCloser
	timer *time.Timer
}

var errSilent = fmt.Errorf("the server has sent nothing for %v", silence)

func watched(r io.ReadCloser) io.ReadCloser {
	return &watch{r, time.AfterFunc(silence, func() { r.Close() })}
}

func (w *watch) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if !w.timer.Reset(silence) && err != nil && !errors.Is(err, io.EOF) {
		err = errSilent
	}
	return n, err
}

func (w *watch) Close() error {
	w.timer.Stop()
	return w.ReadCloser.Close()
}
