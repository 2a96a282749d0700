package supervise

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/init/unixhttp"
)

// helperEnv makes the test binary something else than a test.
const helperEnv = "SUPERVISE_TEST_HELPER"

func TestMain(m *testing.M) {
	switch os.Getenv(helperEnv) {
	case "":
		os.Exit(m.Run())
	case "supervisor": // to be killed
		runHelper(false, sh("sleeper", "exec sleep 1000"))
	case "pid1":
		orphan := sh("orphans", `(sleep 0.05 & ) ; (sh -c 'exit 7' &) ; exec sleep 1000`)
		short := sh("short", "exit 5")
		runHelper(true, orphan, short)
	case "service":
		os.Unsetenv(helperEnv)
		if err := NotifyReady(); err != nil {
			fmt.Println(err)
		}
		fmt.Printf("environment cleared: %v\n", os.Getenv(ReadyEnv) == "")
		time.Sleep(time.Hour)
	}
}

func runHelper(pid1 bool, services ...Service) {
	s, err := New(Config{RunDir: os.Getenv("RUN"), PID1: pid1, Policy: quick, Services: services})
	if err == nil {
		err = s.Run(context.Background())
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// quick is a policy for tests with real processes.
var quick = Policy{First: 5 * time.Millisecond, Max: 40 * time.Millisecond, LoopExits: 3}

func sh(name, script string) Service {
	return Service{Name: name, Argv: []string{"/bin/sh", "-c", script}, Env: []string{helperEnv + "="}, StopTimeout: 2 * time.Second}
}

// eventually waits for a condition that real processes bring about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within 10 s: %s", what)
}

// gone reports whether a process has ended, as a zombie or entirely.
func gone(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, after, _ := strings.Cut(string(b), ") ")
	return strings.HasPrefix(after, "Z")
}

func start(t *testing.T, services ...Service) *Supervisor {
	t.Helper()
	s, err := New(Config{RunDir: t.TempDir(), Policy: quick, Services: services})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

func status(s *Supervisor, name string) ServiceStatus {
	for _, st := range s.Services() {
		if st.Name == name {
			return st
		}
	}
	return ServiceStatus{}
}

func TestReadiness(t *testing.T) {
	self := Service{Name: "go", Argv: []string{os.Args[0]}, Env: []string{helperEnv + "=service"}, ReadyTimeout: 10 * time.Second}
	shell := sh("sh", `echo waiting; read x < "$FIFO"; echo >&$`+ReadyEnv+`; echo ready; exec sleep 1000`)
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	shell.Env = append(shell.Env, "FIFO="+fifo)
	shell.ReadyTimeout = 10 * time.Second
	s := start(t, self, shell)
	eventually(t, "go ready", func() bool { return status(s, "go").State == Ready })
	eventually(t, "sh waiting", func() bool { es, _ := s.Journal().Since(0, "sh"); return len(es) == 1 })
	if st := status(s, "sh"); st.State != Starting || st.PID == 0 || st.RSS == 0 {
		t.Errorf("before it reported: %+v", st)
	}
	if err := os.WriteFile(fifo, []byte("go\n"), 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "sh ready", func() bool { return status(s, "sh").State == Ready })
	eventually(t, "go's line", func() bool {
		es, _ := s.Journal().Since(0, "go")
		return len(es) == 1 && es[0].Line == "environment cleared: true"
	})
}

func TestNotifyReadyWithoutSupervisor(t *testing.T) {
	t.Setenv(ReadyEnv, "")
	if err := NotifyReady(); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"x", "1", "-1"} {
		t.Setenv(ReadyEnv, bad)
		if err := NotifyReady(); err == nil {
			t.Errorf("%s=%s: no error", ReadyEnv, bad)
		}
	}
}

func TestCrashLoopOfARealProcess(t *testing.T) {
	died := make(chan ExitStatus, 100)
	a := sh("a", "echo out; echo err >&2; exit 3")
	a.OnExit = func(_ context.Context, st ExitStatus) { died <- st }
	s := start(t, a, Service{Name: "b", Argv: []string{"/does/not/exist"}})
	for range 4 {
		if st := <-died; st.Code != 3 || st.Signal != "" || st.Requested {
			t.Errorf("exit status %+v", st)
		}
	}
	eventually(t, "crash loops", func() bool { return status(s, "a").CrashLoop && status(s, "b").State == CrashLoop })
	st := status(s, "b")
	if st.LastExit == nil || !strings.Contains(st.LastExit.Reason, "cannot start /does/not/exist: no such file") {
		t.Errorf("b: %+v", st.LastExit)
	}
	es, _ := s.Journal().Since(0, "a")
	if diff := cmp.Diff([]string{"a out", "a err"}, lines(es)[:2]); diff != "" {
		t.Error(diff)
	}
}

func TestKilledProcessComesBack(t *testing.T) {
	s := start(t, sh("a", "exec sleep 1000"))
	eventually(t, "running", func() bool { return status(s, "a").State == Ready })
	first := status(s, "a").PID
	died := time.Now()
	unix.Kill(first, unix.SIGKILL)
	eventually(t, "restarted", func() bool { st := status(s, "a"); return st.State == Ready && st.PID != first })
	st := status(s, "a")
	if st.LastExit.Signal != "SIGKILL" || st.Restarts != 1 {
		t.Errorf("after %v: %+v", time.Since(died), st)
	}
}

func TestStopTakesTheWholeGroup(t *testing.T) {
	s, err := New(Config{Policy: quick, Services: []Service{sh("a", `trap "" TERM; sleep 1000 & echo $!; wait; sleep 1000`)}})
	if err != nil {
		t.Fatal(err)
	}
	s.runners[0].svc.StopTimeout = 50 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	grandchild := 0
	eventually(t, "grandchild", func() bool {
		if es, _ := s.Journal().Since(0, "a"); len(es) > 0 {
			grandchild, _ = strconv.Atoi(es[0].Line)
		}
		return grandchild != 0
	})
	child := status(s, "a").PID
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	eventually(t, "both gone", func() bool { return gone(child) && gone(grandchild) })
}

// The helper is this test binary as a supervisor of its own.
func helper(t *testing.T, what string, attr *syscall.SysProcAttr) (*exec.Cmd, *http.Client) {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"="+what, "RUN="+dir)
	cmd.SysProcAttr = attr
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		if attr.Cloneflags != 0 {
			t.Skipf("no PID namespace: %v", err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd, client(filepath.Join(dir, SocketName))
}

func client(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: unixhttp.Dial(socket)}}
}

func services(c *http.Client) map[string]ServiceStatus {
	resp, err := c.Get("http://init/v1/services")
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	var reply ServicesReply
	if json.NewDecoder(resp.Body).Decode(&reply) != nil {
		return nil
	}
	out := make(map[string]ServiceStatus)
	for _, st := range reply.Services {
		out[st.Name] = st
	}
	return out
}

func TestKillingTheSupervisorKillsItsChildren(t *testing.T) {
	cmd, c := helper(t, "supervisor", &syscall.SysProcAttr{})
	var child int
	eventually(t, "child", func() bool { child = services(c)["sleeper"].PID; return child != 0 })
	if gone(child) {
		t.Fatal("the child does not run")
	}
	cmd.Process.Kill()
	cmd.Wait()
	eventually(t, "child gone", func() bool { return gone(child) })
}

func TestPID1ReapsOrphansAndKeepsStatuses(t *testing.T) {
	attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= unix.CLONE_NEWUSER
	}
	cmd, c := helper(t, "pid1", attr)
	eventually(t, "exits of the short service", func() bool { return services(c)["short"].Restarts > 10 })
	for name, st := range services(c) {
		if name == "short" && (st.LastExit == nil || st.LastExit.Code != 5) {
			t.Errorf("exit status of %s: %+v", name, st.LastExit)
		}
		if name == "orphans" && (st.State != Ready || st.Restarts != 0) {
			t.Errorf("%s: %+v", name, st)
		}
	}
	// The orphans ended long ago; of PID 1's children at most the running
	// ones are left.
	eventually(t, "no zombie", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", cmd.Process.Pid, cmd.Process.Pid))
		if err != nil {
			t.Skip("the kernel does not list children")
		}
		for _, f := range strings.Fields(string(b)) {
			if pid, _ := strconv.Atoi(f); gone(pid) {
				return false
			}
		}
		return true
	})
}

func TestAPI(t *testing.T) {
	asked := make(chan Action, 1)
	dir := t.TempDir()
	s, err := New(Config{Name: "init", RunDir: dir, Policy: quick, Services: []Service{sh("a", "echo hello; exec sleep 1000")},
		Shutdown: func(a Action) error { asked <- a; return nil }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	socket := filepath.Join(dir, SocketName)
	c := client(socket)
	eventually(t, "a ready", func() bool { return services(c)["a"].State == Ready })
	eventually(t, "a's line", func() bool { lines, _ := s.Journal().Since(0, "a"); return len(lines) == 1 }) // before it is restarted
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v %v", info.Mode(), err)
	}
	for _, tt := range []struct {
		method, path, body string
		code               int
		err                string
	}{
		{"POST", "/v1/services/x/restart", "", 404, "restart x: no such service"},
		{"POST", "/v1/services/a/restart", "", 204, ""},
		{"GET", "/v1/nothing", "", 404, "GET /v1/nothing is not part of this API"},
		{"GET", "/v1/journal?since=x", "", 400, `since="x" is not a sequence number`},
		{"POST", "/v1/shutdown", "{", 400, "read the request: unexpected EOF"},
		{"POST", "/v1/shutdown", `{"action":"explode"}`, 400, `action "explode" is neither "poweroff" nor "reboot"`},
		{"POST", "/v1/shutdown", `{"action":"reboot","now":true}`, 400, `read the request: json: unknown field "now"`},
		{"POST", "/v1/shutdown", `{"action":"reboot"}`, 202, ""},
	} {
		req, _ := http.NewRequest(tt.method, "http://init"+tt.path, strings.NewReader(tt.body))
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var reply ErrorReply
		if tt.err != "" {
			json.NewDecoder(resp.Body).Decode(&reply)
		}
		resp.Body.Close()
		if resp.StatusCode != tt.code || reply.Error != tt.err {
			t.Errorf("%s %s %s: %d %q, want %d %q", tt.method, tt.path, tt.body, resp.StatusCode, reply.Error, tt.code, tt.err)
		}
	}
	if a := <-asked; a != Reboot {
		t.Errorf("shutdown asked for %q", a)
	}

	resp, err := c.Get("http://init/v1/journal?follow=1&service=a")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	sc := bufio.NewScanner(resp.Body)
	for range 2 { // one line of each start
		if !sc.Scan() {
			t.Fatalf("journal ended: %v", sc.Err())
		}
		var e Entry
		if err := json.Unmarshal(sc.Bytes(), &e); err != nil || e.Line != "hello" || e.Service != "a" || e.Uptime <= 0 {
			t.Errorf("%s: %+v, %v", sc.Bytes(), e, err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if sc.Scan() {
		t.Errorf("after the end: %s", sc.Bytes())
	}
}

func TestShutdownWithoutPower(t *testing.T) {
	s := start(t)
	eventually(t, "socket", func() bool { _, err := os.Stat(s.socket); return err == nil })
	if err := s.Restart("a"); !errors.Is(err, ErrNoService) {
		t.Errorf("restart of nothing: %v", err)
	}
	resp, err := client(s.socket).Post("http://init/v1/shutdown", "application/json", strings.NewReader(`{"action":"poweroff"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNotImplemented {
		t.Errorf("status %s", resp.Status)
	}
}

// TestOnDying: the hook comes when the process dies, once, and not before.
func TestOnDying(t *testing.T) {
	var dying atomic.Int32
	a := sh("a", `exec sleep 1000`)
	a.OnDying = func() { dying.Add(1) }
	s := start(t, a)
	eventually(t, "a runs", func() bool { return s.Services()[0].PID > 0 })
	if n := dying.Load(); n != 0 {
		t.Fatalf("called %d times while it lives", n)
	}
	syscall.Kill(s.Services()[0].PID, syscall.SIGKILL)
	eventually(t, "the hook", func() bool { return dying.Load() == 1 })
}
