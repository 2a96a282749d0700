package main

import (
	bin "encoding/binary"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

// passage is what a stream of probes saw.
type passage struct {
	sent, lost int
	gap        time.Duration // the longest between two answers
}

// probeEcho sends a numbered datagram every millisecond from the client through the gateways to a server that sends it back,
// until stop, and counts what does not come back.
func probeEcho(t *testing.T, p *pair.Pair) (stop func() passage) {
	t.Helper()
	var server, client *net.UDPConn
	var err error
	p.ServerNS.Do(func() { server, err = net.ListenUDP("udp4", &net.UDPAddr{Port: 7007}) })
	if err == nil {
		p.ClientNS.Do(func() { client, err = net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.ParseIP(pair.Server), Port: 7007}) })
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		buf := make([]byte, 64)
		for {
			n, from, err := server.ReadFromUDP(buf)
			if err != nil {
				return
			}
			server.WriteToUDP(buf[:n], from)
		}
	}()
	var sent, ended atomic.Int64
	go func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for ended.Load() == 0 {
			<-tick.C
			client.Write(bin.BigEndian.AppendUint64(nil, uint64(sent.Add(1))))
		}
	}()
	var back passage
	done := make(chan struct{})
	go func() {
		defer close(done)
		seen, buf, last := map[uint64]bool{}, make([]byte, 64), time.Now()
		for {
			n, err := client.Read(buf)
			if e, ok := err.(net.Error); ok && e.Timeout() {
				back.sent = int(sent.Load())
				back.lost = back.sent - len(seen)
				return
			}
			if err != nil || n != 8 {
				continue // unreachable, says somebody on the way: the probe is lost
			}
			back.gap = max(back.gap, time.Since(last))
			last = time.Now()
			seen[bin.BigEndian.Uint64(buf)] = true
		}
	}()
	return func() passage {
		ended.Store(1)
		time.Sleep(20 * time.Millisecond)
		client.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		<-done
		client.Close()
		server.Close()
		return back
	}
}
