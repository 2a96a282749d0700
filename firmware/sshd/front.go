package sshd

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/twinkeep/twinkeep/firmware/jail"
)

// Bounds of the front.
const (
	frontMemory  = 64 << 20 // bytes that the runtime tries to stay below
	frontFiles   = 256
	frontThreads = 256
	failPause    = time.Second // before a wrong password is answered
)

// answer is a reply with its descriptors.
type answer struct {
	message
	fds  []int
	exit chan int // of a session that begins
}

// speaker is the front: it speaks SSH.
type speaker struct {
	keeper channel
	host   ssh.PublicKey

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan answer
	exits   map[uint64]chan int // by session
	conns   map[uint64]net.Conn
}

// Front is the process that speaks SSH with the network. The keeper is at descriptor 3. It returns when the keeper is gone.
func Front(root string) error {
	keeper, err := newChannel(os.NewFile(3, "keeper"))
	if err != nil {
		return fmt.Errorf("sshd front: the keeper's socket: %w", err)
	}
	if err := jail.Enter(root, jail.Limits{Files: frontFiles, Threads: frontThreads}); err != nil {
		return fmt.Errorf("sshd front: %w", err)
	}
	debug.SetMemoryLimit(frontMemory)
	return newSpeaker(keeper).run()
}

func newSpeaker(keeper channel) *speaker {
	return &speaker{keeper: keeper, waiting: make(map[uint64]chan answer), exits: make(map[uint64]chan int), conns: make(map[uint64]net.Conn)}
}

func (s *speaker) run() error {
	buf := make([]byte, maxMessage)
	first, fds, err := s.keeper.receive(buf)
	closeAll(fds)
	if err != nil {
		return nil // the keeper has gone
	}
	if s.host, err = ssh.ParsePublicKey(first.Key); err != nil {
		return fmt.Errorf("sshd front: the host key: %w", err)
	}
	for {
		m, fds, err := s.keeper.receive(buf)
		if err != nil {
			return nil
		}
		s.take(m, fds)
	}
}

// take takes a message of the keeper.
func (s *speaker) take(m message, fds []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case m.Op == opConnection && len(fds) == 1:
		f := os.NewFile(uintptr(fds[0]), "connection")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			s.keeper.send(message{Op: opClosed, Conn: m.Conn})
			return
		}
		s.conns[m.Conn] = c
		go s.connection(m.Conn, c)
	case m.Op == opReply && s.waiting[m.ID] != nil:
		a := answer{message: m, fds: fds}
		if m.Session != 0 {
			a.exit = make(chan int, 1)
			s.exits[m.Session] = a.exit
		}
		s.waiting[m.ID] <- a
		delete(s.waiting, m.ID)
	case m.Op == opExited:
		closeAll(fds)
		if exit := s.exits[m.Session]; exit != nil {
			exit <- m.Code
			delete(s.exits, m.Session)
		}
	case m.Op == opDrop:
		closeAll(fds)
		if c := s.conns[m.Conn]; c != nil {
			c.Close()
		}
	default:
		closeAll(fds)
	}
}

// ask waits for the keeper's answer. If the keeper is gone, so will this process be.
func (s *speaker) ask(m message) (answer, error) {
	reply := make(chan answer, 1)
	s.mu.Lock()
	s.last++
	m.ID = s.last
	s.waiting[m.ID] = reply
	s.mu.Unlock()
	if err := s.keeper.send(m); err != nil {
		s.mu.Lock()
		delete(s.waiting, m.ID)
		s.mu.Unlock()
		return answer{}, err
	}
	a := <-reply
	if a.Error != "" {
		closeAll(a.fds)
		return a, errors.New(a.Error)
	}
	return a, nil
}

// remoteKey is the host key, which only the keeper has.
type remoteKey struct{ *speaker }

func (k remoteKey) PublicKey() ssh.PublicKey { return k.host }

func (k remoteKey) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	a, err := k.ask(message{Op: opSign, Data: data})
	if err != nil {
		return nil, err
	}
	return &ssh.Signature{Format: k.host.Type(), Blob: a.Data}, nil
}

// errDenied is all that a client learns.
var errDenied = errors.New("permission denied")

// config makes the rules of one connection. user gets the name that the client gives.
func (s *speaker) config(id uint64, user *string) *ssh.ServerConfig {
	c := &ssh.ServerConfig{
		ServerVersion: "SSH-2.0-Twinkeep",
		MaxAuthTries:  maxOffers,
		PublicKeyAuthAlgorithms: []string{
			ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKECDSA256,
			ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSASHA512,
		},
		PasswordCallback: func(meta ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			*user = printable(meta.User(), 32)
			if len(password) > maxLine {
				password = password[:maxLine] // too long for any that could be set
			}
			if _, err := s.ask(message{Op: opPassword, Conn: id, User: *user, Password: password}); err != nil {
				time.Sleep(failPause)
				return nil, errDenied
			}
			return nil, nil
		},
		PublicKeyCallback: func(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			*user = printable(meta.User(), 32)
			return nil, s.offer(opKey, id, *user, key)
		},
		VerifiedPublicKeyCallback: func(meta ssh.ConnMetadata, key ssh.PublicKey, p *ssh.Permissions, _ string) (*ssh.Permissions, error) {
			return p, s.offer(opLogin, id, *user, key)
		},
	}
	c.AddHostKey(remoteKey{s})
	return c
}

func (s *speaker) offer(op string, id uint64, user string, key ssh.PublicKey) error {
	wire := key.Marshal()
	if len(wire) > maxLine {
		return errDenied
	}
	if _, err := s.ask(message{Op: op, Conn: id, User: user, Key: wire}); err != nil {
		return errDenied
	}
	return nil
}

// connection speaks with one client until it leaves.
func (s *speaker) connection(id uint64, c net.Conn) {
	user := ""
	defer func() {
		c.Close()
		s.mu.Lock()
		delete(s.conns, id)
		s.mu.Unlock()
		s.keeper.send(message{Op: opClosed, Conn: id, User: user})
	}()
	c.SetDeadline(time.Now().Add(grace))
	conn, channels, requests, err := ssh.NewServerConn(c, s.config(id, &user))
	if err != nil {
		return
	}
	c.SetDeadline(time.Time{})
	go ssh.DiscardRequests(requests) // forwarding is asked for here; keepalives want any answer
	var sessions sync.WaitGroup
	places := make(chan struct{}, maxPerLogin)
	for offered := range channels {
		if offered.ChannelType() != "session" {
			offered.Reject(ssh.Prohibited, "this is a console: nothing is forwarded")
			continue
		}
		select {
		case places <- struct{}{}:
		default:
			offered.Reject(ssh.ResourceShortage, "too many consoles are open")
			continue
		}
		sessions.Go(func() {
			defer func() { <-places }()
			if ch, requests, err := offered.Accept(); err == nil {
				(&view{speaker: s, conn: id, ch: ch}).serve(requests)
			}
		})
	}
	conn.Close()
	sessions.Wait()
}
