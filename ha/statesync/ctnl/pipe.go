package ctnl

import "github.com/twinkeep/twinkeep/ha/statesync"

// Pipe lets a Table work on operations while its owner prepares the next. It implements statesync.Kernel.
type Pipe struct {
	*Table
	jobs chan []statesync.KernelOp
	done chan []error
	errs []error // of what Begin did by itself
	away bool    // what was begun is with the worker
	over chan struct{}
}

// inline is how many operations are not worth another thread's waking up.
const inline = 64

// NewPipe makes a pipe of a table. Close ends it and closes the table.
func NewPipe(t *Table) *Pipe {
	p := &Pipe{Table: t, jobs: make(chan []statesync.KernelOp), done: make(chan []error, 1), over: make(chan struct{})}
	go func() {
		defer close(p.over)
		for ops := range p.jobs {
			p.done <- t.Apply(ops)
		}
	}()
	return p
}

// Begin implements statesync.Kernel.
func (p *Pipe) Begin(ops []statesync.KernelOp) {
	if p.away = len(ops) > inline; p.away {
		p.jobs <- ops
		return
	}
	p.errs = p.Table.Apply(ops)
}

// End implements statesync.Kernel.
func (p *Pipe) End() []error {
	if p.away {
		p.errs = <-p.done
	}
	return p.errs
}

// Close waits for what was begun, then closes the table.
func (p *Pipe) Close() error {
	close(p.jobs)
	<-p.over
	return p.Table.Close()
}
