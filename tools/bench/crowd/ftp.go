package crowd

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"
)

// A file crosses slowly enough for an event to hit it: pieces of pieceSize, pieceEvery.
const (
	pieces     = 60
	pieceSize  = 20000
	pieceEvery = 100 * time.Millisecond
)

// ftp is two sessions in active mode (RFC 959, PORT): in one a transfer runs when the event comes; in the other the client
// has said where it listens, and the server connects only after the event.
type ftp struct {
	client, server   Namespace
	at               netip.Addr
	ln               net.Listener
	running, waiting *session
}

// FTPResult is what became of them.
type FTPResult struct {
	Running string // "complete" or what went wrong
	Waiting string
}

type session struct {
	conn net.Conn
	in   *bufio.Reader
	data net.Listener
	got  atomic.Int64
	done chan error // of the data connection
}

func openFTP(client, server Namespace, at netip.Addr) (*ftp, error) {
	f := &ftp{client: client, server: server, at: at}
	if err := server.Do(func() (err error) {
		f.ln, err = net.Listen("tcp4", netip.AddrPortFrom(at, 21).String())
		return err
	}); err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := f.ln.Accept()
			if err != nil {
				return
			}
			go f.serve(c)
		}
	}()
	return f, nil
}

func (f *ftp) close() {
	f.ln.Close()
	f.end()
}

// end ends the sessions of the last event.
func (f *ftp) end() {
	for _, s := range []*session{f.running, f.waiting} {
		if s != nil {
			s.conn.Close()
			s.data.Close()
		}
	}
	f.running, f.waiting = nil, nil
}

// serve is the server's side: PORT, and RETR, which connects from port 20 and sends slowly.
func (f *ftp) serve(c net.Conn) {
	defer c.Close()
	fmt.Fprint(c, "220 ready\r\n")
	var to netip.AddrPort
	for in := bufio.NewScanner(c); in.Scan(); {
		word, rest, _ := strings.Cut(strings.TrimSpace(in.Text()), " ")
		switch word {
		case "USER":
			fmt.Fprint(c, "230 welcome\r\n")
		case "PORT":
			var h [6]uint8
			if _, err := fmt.Sscanf(rest, "%d,%d,%d,%d,%d,%d", &h[0], &h[1], &h[2], &h[3], &h[4], &h[5]); err != nil {
				fmt.Fprint(c, "501 ", err, "\r\n")
				continue
			}
			to = netip.AddrPortFrom(netip.AddrFrom4([4]byte(h[:4])), uint16(h[4])<<8|uint16(h[5]))
			fmt.Fprint(c, "200 PORT ", to, "\r\n")
		case "RETR":
			fmt.Fprint(c, "150 opening\r\n")
			if err := f.send(to); err != nil {
				fmt.Fprint(c, "426 ", err, "\r\n")
				continue
			}
			fmt.Fprint(c, "226 done\r\n")
		default:
			fmt.Fprint(c, "502 what?\r\n")
		}
	}
}

func (f *ftp) send(to netip.AddrPort) error {
	var c net.Conn
	if err := f.server.Do(func() (err error) { c, err = net.DialTimeout("tcp4", to.String(), Patience); return err }); err != nil {
		return err
	}
	defer c.Close()
	for range pieces {
		c.SetWriteDeadline(time.Now().Add(Patience))
		if _, err := c.Write(make([]byte, pieceSize)); err != nil {
			return err
		}
		time.Sleep(pieceEvery)
	}
	return nil
}

// begin opens both sessions anew and begins a transfer in one.
func (f *ftp) begin() (err error) {
	f.end()
	if f.running, err = f.session(); err != nil {
		return err
	}
	if f.waiting, err = f.session(); err != nil {
		return err
	}
	return f.running.retrieve()
}

// session logs in and says where the client listens. That the server is told another address shows that the helper works.
func (f *ftp) session() (*session, error) {
	s := &session{done: make(chan error, 1)}
	err := f.client.Do(func() (err error) {
		if s.conn, err = net.DialTimeout("tcp4", netip.AddrPortFrom(f.at, 21).String(), Patience); err != nil {
			return err
		}
		s.data, err = net.ListenTCP("tcp4", &net.TCPAddr{IP: s.conn.LocalAddr().(*net.TCPAddr).IP})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("FTP: %w", err)
	}
	s.in = bufio.NewReader(s.conn)
	go s.receive()
	if _, err := s.answer("220"); err != nil {
		return nil, err
	}
	fmt.Fprint(s.conn, "USER anonymous\r\n") // the kernel's helper looks at lines behind the first only
	if _, err := s.answer("230"); err != nil {
		return nil, err
	}
	here := s.data.Addr().(*net.TCPAddr).AddrPort()
	a, p := here.Addr().Unmap().As4(), here.Port()
	fmt.Fprintf(s.conn, "PORT %d,%d,%d,%d,%d,%d\r\n", a[0], a[1], a[2], a[3], p>>8, p&0xff)
	line, err := s.answer("200")
	if err == nil && strings.Contains(line, here.Addr().Unmap().String()) {
		err = errors.New("FTP: the gateway has not translated the command PORT: no helper is at work")
	}
	return s, err
}

func (s *session) receive() {
	c, err := s.data.Accept()
	if err != nil {
		s.done <- err
		return
	}
	defer c.Close()
	buf := make([]byte, 64<<10)
	for {
		c.SetReadDeadline(time.Now().Add(Patience))
		n, err := c.Read(buf)
		s.got.Add(int64(n))
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			s.done <- err
			return
		}
	}
}

func (s *session) answer(code string) (string, error) {
	s.conn.SetReadDeadline(time.Now().Add(3 * Patience))
	line, err := s.in.ReadString('\n')
	if err == nil && !strings.HasPrefix(line, code) {
		err = fmt.Errorf("the server says %q", strings.TrimSpace(line))
	}
	if err != nil {
		return "", fmt.Errorf("FTP: %w", err)
	}
	return line, nil
}

func (s *session) retrieve() error {
	fmt.Fprint(s.conn, "RETR file\r\n")
	_, err := s.answer("150")
	return err
}

// complete waits for the end of a transfer.
func (s *session) complete() string {
	var err error
	select {
	case err = <-s.done:
	case <-time.After(3 * Patience):
		err = errors.New("the data connection stands still")
	}
	if n := s.got.Load(); err == nil && n != pieces*pieceSize {
		err = fmt.Errorf("%d of %d bytes", n, pieces*pieceSize)
	}
	if err == nil {
		_, err = s.answer("226")
	}
	if err != nil {
		return err.Error()
	}
	return "complete"
}

func (f *ftp) result() *FTPResult {
	if f.running == nil || f.waiting == nil {
		return nil
	}
	r := &FTPResult{}
	if err := f.waiting.retrieve(); err != nil {
		r.Waiting = err.Error()
	}
	r.Running = f.running.complete()
	if r.Waiting == "" {
		r.Waiting = f.waiting.complete()
	}
	return r
}
