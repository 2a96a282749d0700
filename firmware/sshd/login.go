package sshd

import (
	"crypto/rand"
	"errors"
	"fmt"

	"golang.org/x/crypto/ssh"

	"github.com/twinkeep/twinkeep/firmware/login"
	"github.com/twinkeep/twinkeep/init/supervise"
)

// maxTries is how often one connection may try to log in with a password, and how many keys it may offer.
const (
	maxTries  = 4
	maxOffers = 10
)

// signedLen is the longest that the host key signs: the hash of a key exchange (RFC 4253, 8), at most SHA-512.
const signedLen = 64

// Refusals that the front tells nobody.
const (
	refusedUnknown = "no such connection"
	refusedShut    = "the source is shut out"
	refusedWrong   = "wrong user, password or key"
)

func (k *keeper) sign(m message, reply *message) error {
	if len(m.Data) > signedLen {
		return fmt.Errorf("the front wants %d bytes signed", len(m.Data))
	}
	s, err := k.host.Sign(rand.Reader, m.Data)
	if err != nil {
		return fmt.Errorf("sign by the host key: %w", err)
	}
	reply.Data = s.Blob
	return nil
}

// stranger gives a connection that may try to log in. mu is held.
func (k *keeper) stranger(m message) (*conn, string) {
	c := k.conns[m.Conn]
	switch {
	case c == nil || c.known || c.busy:
		return nil, refusedUnknown
	case k.guard.shut(supervise.Uptime(), c.id):
		return nil, refusedShut
	}
	return c, ""
}

// password begins to compare a password; the reply follows. mu is held.
func (k *keeper) password(f *front, m message) (refusal string) {
	c, why := k.stranger(m)
	if c == nil {
		return why
	}
	if c.tries++; c.tries > maxTries {
		return refusedWrong
	}
	c.busy = true
	go func() {
		reply := message{Op: opReply, ID: m.ID}
		err := k.compare(c, m.User, string(m.Password))
		k.mu.Lock()
		defer k.mu.Unlock()
		c.busy = false
		if k.conns[c.id] != c {
			return
		}
		if err == nil {
			k.entered(c, "password", "")
		} else {
			reply.Error = refusedWrong
			k.failure(c, m.User, "password", err)
		}
		if err := f.send(reply); err != nil {
			f.kill()
		}
	}()
	return ""
}

var errNoUser = errors.New("there is no such user")

// compare takes the same time whoever asks. One at a time: the others wait, and are given up when their source has been
// shut out meanwhile.
func (k *keeper) compare(c *conn, user, password string) error {
	k.hashes.Lock()
	defer k.hashes.Unlock()
	k.mu.Lock()
	shut := k.conns[c.id] != c || k.guard.shut(supervise.Uptime(), c.id)
	k.mu.Unlock()
	if shut {
		return errors.New(refusedShut)
	}
	line, err := login.Load(k.ConfigDir)
	if err != nil {
		return err
	}
	if line == "" {
		return errors.New("no password is set")
	}
	if err := login.Verify(line, password); err != nil {
		return err
	}
	if user != User {
		return errNoUser
	}
	return nil
}

// publicKey tells whether a key may log in, and lets it in that has proved itself. mu is held.
func (k *keeper) publicKey(m message) (refusal string) {
	c, why := k.stranger(m)
	if c == nil {
		return why
	}
	if m.Op == opKey {
		if c.offers++; c.offers > maxOffers {
			return refusedWrong
		}
	}
	offered, err := ssh.ParsePublicKey(m.Key)
	if err != nil || m.User != User {
		c.failed = true
		return refusedWrong
	}
	keys, _, err := LoadKeys(k.ConfigDir)
	if err != nil {
		k.Log.Error("nobody gets in by a key", "err", err)
		return refusedWrong
	}
	for _, key := range keys {
		if string(key.Marshal()) == string(offered.Marshal()) {
			if m.Op == opLogin {
				k.entered(c, "key", key.Fingerprint())
			}
			return ""
		}
	}
	c.failed = true // counted when it leaves: a client offers all the keys it has
	return refusedWrong
}

// entered takes a login. mu is held.
func (k *keeper) entered(c *conn, by, fingerprint string) {
	c.known, c.user, c.key, c.by = true, User, fingerprint, by
	if fingerprint != "" {
		c.by = by + " " + fingerprint
	}
	k.guard.succeeded(c.id)
	k.counts.Logins++
	k.Log.Info("login", "user", c.user, "source", c.source.Addr(), "by", c.by)
}

// failure counts a failed login. mu is held.
func (k *keeper) failure(c *conn, user, by string, err error) {
	c.failed = false // counted now
	k.counts.Failures++
	block := k.guard.failed(supervise.Uptime(), c.id)
	args := []any{"user", printable(user, 32), "source", c.source.Addr(), "by", by, "why", err}
	if block > 0 {
		args = append(args, "shut_out_for", block)
	}
	k.Log.Warn("login failed", args...)
}

// closed takes the end of a connection that the front tells of. mu is held.
func (k *keeper) closed(m message) {
	c := k.conns[m.Conn]
	if c != nil && !c.known && c.failed {
		k.failure(c, m.User, "key", errors.New("none of its keys may log in"))
	}
	k.gone(m.Conn)
}
