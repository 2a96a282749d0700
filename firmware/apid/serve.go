package apid

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/techsupport"
	"github.com/twinkeep/twinkeep/init/unixhttp"
)

// Headers by which the front says where a request comes from and where it came in.
const (
	headerSource = "X-Twinkeep-Source"
	headerLocal  = "X-Twinkeep-Local"
)

// maxBody bounds what a request carries: a signed policy is the largest.
const maxBody = 20 << 20

// operatorKey is the query that policies are installed with: who did it.
const operatorKey = "operator"

// serve answers a stranger. Nothing of the body is read before the token is known.
func (k *keeper) serve(w http.ResponseWriter, r *http.Request, to route) {
	source, err := netip.ParseAddr(r.Header.Get(headerSource))
	if err != nil {
		api.Reply(w, nil, &api.Error{Status: http.StatusBadRequest, Message: "the front does not say who asks"})
		return
	}
	who, fault := k.admit(r, source)
	switch {
	case fault != nil:
	case to.socket == "":
		fault = &api.Error{Status: http.StatusNotFound, Message: fmt.Sprintf("%.20s %.200s is not part of this API", r.Method, r.URL.Path), Hint: "docs/api.md has the list"}
	case r.ContentLength > maxBody:
		fault = tooLarge(maxBody)
	case to.role == Admin && who.Role != Admin:
		fault = &api.Error{Status: http.StatusForbidden, Message: fmt.Sprintf("the token %s may only read", who.Name), Hint: "make one with: api token create NAME --role admin"}
	}
	if fault != nil {
		switch fault.Status {
		case http.StatusUnauthorized:
			w.Header().Set("WWW-Authenticate", `Bearer realm="twinkeep"`)
		case http.StatusTooManyRequests:
			w.Header().Set("Retry-After", "5")
		}
		api.Reply(w, nil, fault)
		return
	}
	if r.Method != http.MethodGet {
		k.Log.Info("command", "operator", who.Name, "source", source, "method", r.Method, "path", r.URL.Path)
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	q := r.URL.Query()
	q.Del(operatorKey)
	if r.Method == http.MethodPost {
		q.Set(operatorKey, "api:"+who.Name)
	}
	r.URL.RawQuery = q.Encode()
	if to.to != "" {
		r.URL.Path, r.URL.RawPath = to.to, ""
	}
	k.daemons[to.socket].ServeHTTP(w, r)
}

// admit tells who asks, or why not.
func (k *keeper) admit(r *http.Request, source netip.Addr) (Token, *api.Error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.counts.Requests++
	refuse := func(status int, why string) (Token, *api.Error) {
		k.counts.Refused++
		k.refused[why]++
		return Token{}, &api.Error{Status: status, Message: why}
	}
	if local, err := netip.ParseAddr(r.Header.Get(headerLocal)); err != nil || k.settings.vips[local] {
		return refuse(http.StatusMisdirectedRequest, "ask a member at its own address: a virtual one is whose turn it is")
	}
	who, ok := bearer(k.tokens, r.Header.Get("Authorization"))
	switch {
	case !ok && !k.limit.wrong(now(), source):
		return refuse(http.StatusTooManyRequests, "too many requests without a good token")
	case !ok:
		return refuse(http.StatusUnauthorized, "there is no such token")
	case !k.limit.request(now(), source):
		return refuse(http.StatusTooManyRequests, "too many requests")
	}
	return who, nil
}

func tooLarge(limit int64) *api.Error {
	return &api.Error{Status: http.StatusRequestEntityTooLarge, Message: fmt.Sprintf("a request carries at most %d bytes", limit)}
}

// archive writes the archive of techsupport, one at a time.
func (k *keeper) archive() http.Handler {
	var one sync.Mutex
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !one.TryLock() {
			api.Reply(w, nil, &api.Error{Status: http.StatusConflict, Message: "another archive is being written"})
			return
		}
		defer one.Unlock()
		w.Header().Set("Content-Type", "application/gzip")
		if err := techsupport.Write(r.Context(), w, api.NewClient(k.RunDir), techsupport.Options{Version: k.Version}); err != nil {
			panic(http.ErrAbortHandler) // the client must not take a part for the whole
		}
	})
}

// daemon passes requests on to a daemon's socket.
func (k *keeper) daemon(socket string) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", socket, socket
			for _, name := range []string{"Authorization", headerSource, headerLocal} {
				r.Out.Header.Del(name)
			}
		},
		Transport: &http.Transport{
			DialContext:       unixhttp.Dial(filepath.Join(k.RunDir, socket)),
			DisableKeepAlives: true, ResponseHeaderTimeout: 2 * time.Minute,
		},
		FlushInterval: -1, // the journal is followed
		ErrorLog:      silent,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			var large *http.MaxBytesError
			if errors.As(err, &large) {
				api.Reply(w, nil, tooLarge(large.Limit))
				return
			}
			hint := "on the console: log"
			if r.Method != http.MethodGet {
				hint = "it is not known whether the order was carried out: look before you repeat it"
			}
			api.Reply(w, nil, &api.Error{Status: http.StatusBadGateway, Message: "the daemon that knows does not answer: " + err.Error(), Hint: hint})
		},
	}
}
