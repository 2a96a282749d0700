package link

import (
	"encoding/hex"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/ha/statesync"
)

func key(first byte) []byte {
	k := make([]byte, 32)
	k[0] = first
	return k
}

// TestBeacon holds the wire format and that nobody without the key can make or change one.
func TestBeacon(t *testing.T) {
	c, err := NewCodec(key(1))
	if err != nil {
		t.Fatal(err)
	}
	want := Beacon{Cluster: 9, Member: 2, Nonce: 0x1122334455667788}
	b := c.Append(nil, want)
	if got := hex.EncodeToString(b[:beaconLen]); got != "544b534201090200"+"1122334455667788" {
		t.Errorf("beacon %s", got)
	}
	if got, err := c.Parse(b); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for i := range b {
		bad := append([]byte(nil), b...)
		bad[i] ^= 1
		if _, err := c.Parse(bad); err == nil {
			t.Errorf("byte %d changed and not noticed", i)
		}
	}
	other, _ := NewCodec(key(2))
	if _, err := other.Parse(b); err == nil {
		t.Error("another cluster's beacon passed")
	}
	if _, err := NewCodec(key(1)[:5]); err == nil {
		t.Error("a short key passed")
	}
}

func FuzzBeacon(f *testing.F) {
	c, _ := NewCodec(key(1))
	f.Add(c.Append(nil, Beacon{Cluster: 1, Member: 2}))
	f.Fuzz(func(t *testing.T, b []byte) { c.Parse(b) })
}

// pipe opens both ends of a session over TCP on the loopback.
func pipe(t *testing.T, a, b []byte) (server, client *Session, errServer, errClient error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ca, err := Config(a)
	if err != nil {
		t.Fatal(err)
	}
	cb, err := Config(b)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := ln.Accept()
		if err != nil {
			errServer = err
			return
		}
		server, errServer = Open(conn, ca, false, statesync.Hello{Version: statesync.Version, Cluster: 1, Member: 1}, func(*statesync.Hello) error { return nil })
	}()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	client, errClient = Open(conn, cb, true, statesync.Hello{Version: statesync.Version, Cluster: 1, Member: 2}, func(*statesync.Hello) error { return nil })
	<-done
	return server, client, errServer, errClient
}

// TestSession: two ends with one key talk; with two keys neither takes the other in.
func TestSession(t *testing.T) {
	server, client, err1, err2 := pipe(t, key(1), key(1))
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if server.Peer.Member != 2 || client.Peer.Member != 1 {
		t.Errorf("%+v, %+v", server.Peer, client.Peer)
	}
	frame := []byte{0, 0, 0, 9, byte(statesync.TypeBarrier), 0, 0, 0, 0, 0, 0, 0, 7}
	for range 3 {
		if !client.Send(frame) {
			t.Fatal("not sent")
		}
		kind, payload, err := server.Read()
		if err != nil || kind != statesync.TypeBarrier || len(payload) != 8 || payload[7] != 7 {
			t.Fatalf("%d %x %v", kind, payload, err)
		}
	}
	server.Close(errors.New("enough"))
	if _, _, err := client.Read(); err == nil {
		t.Error("read from a closed session")
	}
	client.Close(errors.New("too"))
	if client.Send(frame) {
		t.Error("sent on a closed session")
	}
	if server.Err().Error() != "enough" {
		t.Error(server.Err())
	}
	_, _, err1, err2 = pipe(t, key(1), key(2))
	if err1 == nil || err2 == nil {
		t.Fatalf("two keys: %v, %v", err1, err2)
	}
	if ReasonOf(err2) != "wrong_key" || !strings.Contains(err2.Error(), ErrWrongKey.Error()) {
		t.Errorf("%v: %s", err2, ReasonOf(err2))
	}
}

// TestQueue: a peer that does not read makes the queue full, not the process.
func TestQueue(t *testing.T) {
	server, client, err1, err2 := pipe(t, key(1), key(1))
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	defer server.Close(net.ErrClosed)
	defer client.Close(net.ErrClosed)
	frame := make([]byte, 100<<10)
	n := 0
	for end := time.Now().Add(5 * time.Second); client.Send(frame) && time.Now().Before(end); {
		n += len(frame)
	}
	waiting, peak, _ := client.Backlog()
	if waiting > QueueLimit || peak > QueueLimit || n < QueueLimit/2 {
		t.Errorf("%d bytes taken, %d wait, peak %d", n, waiting, peak)
	}
}
