// Package managertest runs the management server as a real process for tests.
package managertest

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/twinkeep/twinkeep/firmware/policy/registry"
)

var (
	once     sync.Once
	binary   string
	errBuild error
)

// build compiles the server once a test binary, into a directory that stays until Cleanup.
func build() (string, error) {
	once.Do(func() {
		_, file, _, _ := runtime.Caller(0)
		dir, err := os.MkdirTemp("", "manager")
		if err != nil {
			errBuild = err
			return
		}
		binary = filepath.Join(dir, "twinkeep-manager")
		cmd := exec.Command("go", "build", "-o", binary, ".")
		cmd.Dir = filepath.Join(filepath.Dir(file), "..", "manager")
		if out, err := cmd.CombinedOutput(); err != nil {
			errBuild = fmt.Errorf("build the manager: %w\n%s", err, out)
		}
	})
	return binary, errBuild
}

// Cleanup removes the compiled server. Call it at the end of TestMain.
func Cleanup() {
	if binary != "" {
		os.RemoveAll(filepath.Dir(binary))
	}
}

// Server is a running process.
type Server struct {
	Dir      string
	Address  string
	CA       string
	Gateway  string // token, read-only
	Operator string // token
	Log      func() string

	t     testing.TB
	netns string
	names []string // that its certificate has too
	cmd   *exec.Cmd
}

// Start runs a new server on a free port of 127.0.0.1 until the test ends. Its certificate is for names too.
func Start(t testing.TB, names ...string) *Server {
	t.Helper()
	s := &Server{t: t, Dir: t.TempDir(), names: names}
	s.run("127.0.0.1:0")
	t.Cleanup(s.Stop)
	return s
}

// New makes a server in a network namespace that does not run yet: Restart starts it, at address, which has a host and a
// port.
func New(t testing.TB, netns, address string) *Server {
	t.Helper()
	s := &Server{t: t, Dir: t.TempDir(), netns: netns, Address: address}
	t.Cleanup(s.Stop)
	return s
}

var (
	tokenLine   = regexp.MustCompile(`(?m)^token: (\S+)`)
	writeLine   = regexp.MustCompile(`(?m)^# token: (\S+)`)
	addressPart = regexp.MustCompile(`msg=serving address=(\S+)`)
)

func (s *Server) run(listen string) {
	s.t.Helper()
	path, err := build()
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(s.Dir, "stdout"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer out.Close()
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		s.t.Fatal(err)
	}
	args := []string{path, "serve", "--dir", s.Dir, "--listen", listen, "--name", strings.Join(append([]string{host}, s.names...), ",")}
	if s.netns != "" {
		args = append([]string{"ip", "netns", "exec", s.netns}, args...)
	}
	s.cmd = exec.Command(args[0], args[1:]...)
	s.cmd.Stdout = out
	pipe, err := s.cmd.StderrPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	var mu sync.Mutex
	var log strings.Builder
	s.Log = func() string { mu.Lock(); defer mu.Unlock(); return log.String() }
	serving := make(chan string, 1)
	go func() {
		defer close(serving)
		for lines := bufio.NewScanner(pipe); lines.Scan(); {
			mu.Lock()
			log.WriteString(lines.Text() + "\n")
			mu.Unlock()
			if m := addressPart.FindStringSubmatch(lines.Text()); m != nil {
				serving <- m[1]
			}
		}
	}()
	address, ok := <-serving
	if !ok {
		s.t.Fatalf("the manager did not start:\n%s", s.Log())
	}
	s.Address = address
	ca, err := os.ReadFile(filepath.Join(s.Dir, "ca.pem"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.CA = string(ca)
	if s.Gateway == "" { // printed at the first start, before it serves
		text, err := os.ReadFile(out.Name())
		if err != nil {
			s.t.Fatal(err)
		}
		gateway, operator := tokenLine.FindSubmatch(text), writeLine.FindSubmatch(text)
		if gateway == nil || operator == nil {
			s.t.Fatalf("no tokens in what the manager printed:\n%s", text)
		}
		s.Gateway, s.Operator = string(gateway[1]), string(operator[1])
	}
}

// Stop ends the process, if it runs.
func (s *Server) Stop() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.cmd.Wait()
	s.cmd = nil
}

// Restart runs it again on the same address.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	s.run(s.Address)
}

// Config is for a client with one of the tokens.
func (s *Server) Config(repository, token string) registry.Config {
	return registry.Config{Address: s.Address, Repository: repository, Token: token, CA: s.CA}
}

// Registry is a client with one of the tokens.
func (s *Server) Registry(repository, token string) *registry.Registry {
	s.t.Helper()
	r, err := registry.New(s.Config(repository, token))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(r.Close)
	return r
}
