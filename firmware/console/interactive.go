package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/license"
)

// Interactive is the console of the box: a prompt, history, tab completion, and ? for help at any place. It returns
// when the operator leaves it, in ends, or ctx ends. Ctrl-C and its signal end the running command, never the
// console. When in is a terminal it is put into raw mode meanwhile.
func Interactive(ctx context.Context, in io.Reader, out io.Writer, opts Options) error {
	c := &console{life: ctx, opts: opts, in: in, out: out, known: opts.Operator != ""}
	fd := -1
	if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fd = int(f.Fd())
		state, err := term.MakeRaw(fd)
		if err != nil {
			return fmt.Errorf("console: raw mode: %w", err)
		}
		c.cooked = state
		defer term.Restore(fd, state)
	}
	keys, err := newKeyboard(in, fd)
	if err != nil {
		return fmt.Errorf("console: %w", err)
	}
	c.keys = keys
	defer keys.close()
	defer context.AfterFunc(ctx, keys.close)()

	c.term = term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{keys, out}, "")
	c.term.AutoCompleteCallback = c.key
	defer c.signals()()
	c.resize()
	return c.loop(ctx)
}

// console is one interactive session.
type console struct {
	life   context.Context // of Interactive
	opts   Options
	in     io.Reader
	out    io.Writer
	keys   *keyboard
	term   *term.Terminal
	cooked *term.State // of the terminal before raw mode, nil when in is none

	lastPrompt string
	known      bool // the operator has given the password, or set it
}

func (c *console) loop(ctx context.Context) error {
	fmt.Fprintf(c.term, "\nTwinkeep %s. ? shows what can be typed, Tab completes it.\n", either(c.opts.Version, "(no version)"))
	if err := c.login(ctx); err != nil {
		return nil
	}
	c.greet(ctx)
	c.begin(ctx)
	for ctx.Err() == nil {
		c.lastPrompt = c.prompt(ctx)
		c.term.SetPrompt(c.lastPrompt)
		waits := c.leaveIdle()
		line, err := c.term.ReadLine()
		waits.Stop()
		if err != nil && !errors.Is(err, term.ErrPasteIndicator) {
			break // the operator has gone
		}
		if err := c.login(ctx); err != nil {
			break
		}
		if c.execute(ctx, line) {
			return nil
		}
	}
	fmt.Fprintln(c.term)
	return nil
}

// operatorIdle is how long the prompt of somebody who came over the network waits for a line.
const operatorIdle = 30 * time.Minute

// leaveIdle ends the console when nobody gives a command for too long. A command that runs is not cut off.
func (c *console) leaveIdle() *time.Timer {
	limit := c.opts.Idle
	if limit == 0 && c.opts.Operator != "" {
		limit = operatorIdle
	}
	if limit == 0 { // on a serial line it stays
		limit = math.MaxInt64
	}
	return time.AfterFunc(limit, func() {
		fmt.Fprintf(c.term, "\nNo command for %v: this console ends.\n", limit)
		c.keys.close()
	})
}

// quick is how long the console waits for what it shows unasked.
const quick = 500 * time.Millisecond

// prompt shows whose console this is.
func (c *console) prompt(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, quick)
	defer cancel()
	client := api.NewClient(either(c.opts.Run, DefaultRun))
	name, err := os.Hostname()
	if err != nil {
		name = "twinkeep"
	}
	if s, err := client.Node(ctx); err == nil && s.Hostname != "" {
		name = s.Hostname
	}
	if l, err := client.Licence(ctx); err == nil && l.State == license.Lockdown.String() {
		name += " LOCKDOWN"
	}
	return name + ":/> "
}

// defaultPatience is for a box that is still starting: consoles come first.
const defaultPatience = 15 * time.Second

// started waits for gatewayd and gives its view of the node file.
func (c *console) started(ctx context.Context, client *api.Client) (api.NodeStatus, error) {
	end := time.Now().Add(cmp.Or(c.opts.Patience, defaultPatience))
	for told := false; ; told = true {
		once, cancel := context.WithTimeout(ctx, quick)
		s, err := client.Node(once)
		cancel()
		if err == nil || ctx.Err() != nil || time.Now().After(end) {
			return s, err
		}
		if !told {
			fmt.Fprintln(c.term, "Waiting for the services to start.")
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// greet tells the operator about lockdown and a bad node file before the first prompt.
func (c *console) greet(ctx context.Context) {
	if c.opts.Failsafe {
		fmt.Fprint(c.term, failsafeText)
		return
	}
	client := api.NewClient(either(c.opts.Run, DefaultRun))
	status, err := c.started(ctx, client)
	if err != nil {
		PrintError(c.term, err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, quick)
	defer cancel()
	if l, err := client.Licence(ctx); err == nil {
		lockedDown(c.term, l)
	}
	if len(status.Errors) == 0 || c.opts.ConfigDir != "" && c.session().unconfigured() {
		return
	}
	file, _ := client.NodeFile(ctx) // without it the faults have no source line
	fmt.Fprintln(c.term)
	writeNodeStatus(c.term, status, file)
	fmt.Fprintln(c.term, "To fix it: node show, copy the file, correct it, node edit, paste it, end with a line that has a single \".\".")
}

const failsafeText = `
FAILSAFE: nothing runs but this console, no interface has an address, the gate is shut.
upgrade status|rollback|install, log --boot -1, flash, factory-reset and shell work. To leave: reboot
`

// begin begins the first setup on a device that has no node file.
func (c *console) begin(ctx context.Context) {
	if !c.opts.Failsafe && c.opts.ConfigDir != "" && c.session().unconfigured() {
		c.execute(ctx, "setup")
	}
}

func (c *console) session() *session {
	return &session{Options: c.opts, life: c.life, interactive: true, readLine: c.readLine, readPassword: c.readPassword, foreground: c.foreground, passwordSet: func() { c.known = true }}
}

// tree makes a fresh command tree: flags keep their values in a used one.
func (c *console) tree() *cobra.Command {
	root := c.session().root()
	root.SetOut(c.term)
	root.SetErr(c.term)
	root.SetIn(strings.NewReader("")) // commands ask by readLine
	return root
}

// execute runs one line and reports whether it was the last.
func (c *console) execute(ctx context.Context, line string) (exit bool) {
	args, err := split(line)
	if err != nil {
		PrintError(c.term, err)
		return false
	}
	if len(args) == 0 {
		return false
	}
	root := c.tree()
	args = Normalize(root, args)
	root.SetArgs(args)
	defer audit(c.opts, root, args)(&err)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.keys.during(cancel, func() { err = root.ExecuteContext(ctx) })
	if errors.Is(err, errExit) {
		return true
	}
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(c.term, "^C")
	}
	PrintError(c.term, err)
	return false
}

// readLine asks for a line in the middle of a command. Completion and history are off: what is pasted may hold the
// cluster key.
func (c *console) readLine(prompt string) (string, error) {
	callback, history := c.term.AutoCompleteCallback, c.term.History
	c.term.AutoCompleteCallback, c.term.History = nil, forgetful{}
	defer func() { c.term.AutoCompleteCallback, c.term.History = callback, history }()
	c.term.SetPrompt(prompt)
	line, err := c.term.ReadLine()
	if errors.Is(err, term.ErrPasteIndicator) {
		err = nil
	}
	return line, err
}

// forgetful is a history without memory.
type forgetful struct{}

func (forgetful) Add(string)    {}
func (forgetful) Len() int      { return 0 }
func (forgetful) At(int) string { return "" }

// foreground lends the terminal to another program.
func (c *console) foreground(f func(io.Reader, io.Writer) error) error {
	if c.cooked == nil {
		return &api.Error{Message: "this needs a terminal"}
	}
	fd := int(c.in.(*os.File).Fd())
	c.keys.lend()
	c.keys.awaitIdle()
	defer c.keys.takeBack()
	if err := term.Restore(fd, c.cooked); err != nil {
		return fmt.Errorf("lend the terminal: %w", err)
	}
	err := f(c.in, c.out)
	if _, rawErr := term.MakeRaw(fd); rawErr != nil {
		err = errors.Join(err, fmt.Errorf("take the terminal back: %w", rawErr))
	}
	return err
}

// signals keeps the console alive under the signals of a terminal, and follows its size. The result undoes it.
func (c *console) signals() func() {
	caught := make(chan os.Signal, 4)
	// Notify, not Ignore: a shell started from here must get its own signals.
	signal.Notify(caught, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTSTP, syscall.SIGWINCH)
	go func() {
		for s := range caught {
			switch s {
			case syscall.SIGWINCH:
				c.resize()
			case syscall.SIGINT:
				c.keys.interrupt()
			}
		}
	}()
	return func() {
		signal.Stop(caught)
		close(caught)
	}
}

// resize tells the line editor the size of the terminal. A serial line does not know its own.
func (c *console) resize() {
	if c.cooked == nil {
		return
	}
	if w, h, err := term.GetSize(int(c.in.(*os.File).Fd())); err == nil && w > 0 && h > 0 {
		c.term.SetSize(w, h)
	}
}

// split cuts a line into words. Quotes of both kinds keep blanks together.
func split(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	var quote rune
	open := false
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '"' || r == '\'':
			quote, open = r, true
		case r == ' ' || r == '\t':
			if open {
				words = append(words, word.String())
				word.Reset()
				open = false
			}
		default:
			word.WriteRune(r)
			open = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a quote %c is not closed", quote)
	}
	if open {
		words = append(words, word.String())
	}
	return words, nil
}
