// Package contact asks the licence server about a licence.
package contact

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/firmware/license"
	"github.com/twinkeep/twinkeep/firmware/license/lockdown"
)

// Timeout is how long a question may take.
const Timeout = 8 * time.Second

// Ask asks the licence's server, and believes an answer that a key of the ring has signed for this question. The sockets
// carry lockdown.Mark, so that it works in lockdown too.
func Ask(ctx context.Context, l *license.Licence, ring license.Ring) (license.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	var random [16]byte
	rand.Read(random[:])
	nonce := hex.EncodeToString(random[:])
	address := strings.TrimSuffix(l.Server, "/") + "/v1/licences/" + url.PathEscape(l.ID) + "?nonce=" + nonce
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return license.Answer{}, fmt.Errorf("ask the licence server: %w", err)
	}
	// The signature of the answer is what is believed. A check of the certificate would add nothing to it, and would make the
	// licence depend on a list of authorities and on the clock.
	transport := &http.Transport{
		DialContext: dialer().DialContext, DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the address is in the licence, and the nonce says nothing to people
		}
		return license.Answer{}, fmt.Errorf("ask the licence server: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return license.Answer{}, fmt.Errorf("the licence server says %s", resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, license.MaxAnswer+1))
	if err != nil {
		return license.Answer{}, fmt.Errorf("read the answer of the licence server: %w", err)
	}
	return license.ParseAnswer(data, l.ID, nonce, ring)
}

// dialer marks its sockets, those of the resolver too.
func dialer() *net.Dialer {
	mark := func(_, _ string, c syscall.RawConn) error {
		var set error
		err := c.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, lockdown.Mark) })
		return errors.Join(err, set)
	}
	resolver := &net.Dialer{Control: mark}
	return &net.Dialer{Control: mark, Resolver: &net.Resolver{PreferGo: true, Dial: resolver.DialContext}}
}
