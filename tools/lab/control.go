package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/tools/lab/agent"
	"github.com/twinkeep/twinkeep/tools/lab/scenario"
)

// status shows what runs, and what the gateways say of themselves.
func status(ctx context.Context, o options) error {
	s, err := load(o.dir)
	if err != nil {
		return err
	}
	fmt.Printf("lab: process %d, up %v, sockets in %s\n", s.Process.PID, time.Since(s.Began).Round(time.Second), s.RunDir)
	for _, m := range s.Machines {
		if !m.Process.running() {
			fmt.Printf("%-7s off      %s, log %s\n", m.Name, m.Role, m.Log)
			continue
		}
		fmt.Printf("%-7s running  %s, process %d, %s\n", m.Name, m.Role, m.Process.PID, ask(ctx, m))
	}
	return nil
}

// ask asks a machine's agent. The agent's socket takes one client; while a story runs, that is the lab itself.
func ask(ctx context.Context, m machine) string {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	c, err := agent.Dial(ctx, m.Agent)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	up, err := c.Uptime(ctx)
	if err != nil {
		return "the agent does not answer (a story runs, or the machine boots)"
	}
	text := fmt.Sprintf("up %v", up.Round(time.Second))
	if st, err := scenario.StatusOf(ctx, c); err == nil && st.ClusterID != 0 { // a host has no cluster
		text += fmt.Sprintf(", %s (%s)", st.State, st.Reason)
	}
	return text
}

// cut ends one machine with SIGKILL.
func cut(_ context.Context, o options) error {
	s, err := load(o.dir)
	if err != nil {
		return err
	}
	m, err := s.machine(o.machine)
	if err != nil {
		return err
	}
	if !m.Process.running() {
		return fmt.Errorf("machine %s has no power already", m.Name)
	}
	return m.Process.signal(unix.SIGKILL)
}

// stopLab ends the lab's process; its machines end with it, whatever happens.
func stopLab(ctx context.Context, o options) error {
	s, err := load(o.dir)
	if errors.Is(err, errNoLab) {
		fmt.Println("no lab runs")
		return nil
	}
	if err != nil {
		return err
	}
	for _, step := range []struct {
		sig  unix.Signal
		wait time.Duration
	}{{unix.SIGTERM, 10 * time.Second}, {unix.SIGKILL, 5 * time.Second}} {
		if err := s.Process.signal(step.sig); err != nil {
			return err
		}
		for end := time.Now().Add(step.wait); time.Now().Before(end); {
			if !s.Process.running() {
				fmt.Println("lab stopped; logs and captures stay in", o.dir)
				return nil
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	return fmt.Errorf("process %d does not end, not even by SIGKILL", s.Process.PID)
}
