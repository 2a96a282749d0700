package sshd

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/twinkeep/twinkeep/firmware/node"
)

// settings are what the node file or the policy say.
type settings struct {
	port uint16 // 0: off
	// vips are addresses that nobody gets in by. A policy's rules say that themselves; a node file's let all of lan in.
	vips  map[netip.Addr]bool
	files [2]stamp // what they were read from
	known bool     // they were read
}

// stamp tells a file from its successor.
type stamp struct {
	changed time.Time
	size    int64
	inode   any
}

func inode(info fs.FileInfo) any {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Ino
	}
	return nil
}

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	return stamp{info.ModTime(), info.Size(), inode(info)}
}

// read gives the settings as they are now; those before when the files say nothing.
func (s settings) read(configDir, runDir string) settings {
	files := [2]stamp{stampOf(filepath.Join(configDir, node.FileName)), stampOf(filepath.Join(runDir, node.InForceFile))}
	if s.known && files == s.files {
		return s
	}
	n, in, err := node.LoadRunning(configDir, runDir)
	switch {
	case errors.Is(err, fs.ErrNotExist): // not set up yet
		return settings{port: node.DefaultSSHPort, files: files, known: true}
	case err != nil: // gatewayd goes on with what it had, and says what is wrong
		if !s.known {
			s.port = node.DefaultSSHPort
		}
		s.files, s.known = files, true
		return s
	}
	next := settings{port: n.SSH.Listen(), files: files, known: true}
	if in == nil || in.Node == nil {
		next.vips = make(map[netip.Addr]bool)
		for i := range n.Interfaces {
			for _, a := range n.Interfaces[i].VIPs {
				next.vips[a] = true
			}
		}
	}
	return next
}

// look follows the settings: it listens where they say.
func (k *keeper) look() {
	k.mu.Lock()
	defer k.mu.Unlock()
	before := k.settings
	k.settings = before.read(k.ConfigDir, k.RunDir)
	if before.known && before.port == k.settings.port && (k.listener != nil || k.settings.port == 0) {
		return
	}
	if k.listener != nil {
		k.listener.Close()
		k.listener, k.listening = nil, ""
	}
	if k.settings.port == 0 {
		k.problem = ""
		if before.port != 0 {
			k.Log.Info("the console over the network is off")
		}
		for id := range k.conns {
			k.drop(id)
		}
		return
	}
	listen := k.Listen
	if listen == nil {
		listen = func() (net.Listener, error) { return net.Listen("tcp", fmt.Sprintf(":%d", k.settings.port)) }
	}
	ln, err := listen()
	if err != nil {
		if text := err.Error(); text != k.problem {
			k.problem = text
			k.Log.Error("the console over the network cannot be reached", "err", err)
		}
		return
	}
	k.listener, k.listening, k.problem = ln, ln.Addr().String(), ""
	k.Log.Info("the console over the network listens", "address", k.listening)
	go k.accept(ln)
}

// drop has the front end a connection. mu is held.
func (k *keeper) drop(id uint64) {
	if k.front == nil {
		return
	}
	if err := k.front.send(message{Op: opDrop, Conn: id}); err != nil {
		k.front.kill()
	}
}
