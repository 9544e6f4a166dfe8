package shell

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/term"
)

// Shell runs lines.
type Shell struct {
	// Run runs a command line and prints its results and its error. It reports whether it
	// succeeded.
	Run func(ctx context.Context, words []string) bool
	// Keys returns some keys that begin with a prefix, for completion.
	Keys    func(prefix string) []string
	Env     func(string) (string, bool)
	History *History
	Prompt  string
	Errors  io.Writer
}

// maxLine bounds a line that is read from a file or pipe, in bytes: a value of the largest
// size, quoted.
const maxLine = 16 << 20

// FromPipe runs the lines of what is no terminal. It returns how many of them failed.
func (s *Shell) FromPipe(ctx context.Context, in io.Reader) (failed int, err error) {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	for ctx.Err() == nil && lines.Scan() {
		done, ok := s.line(ctx, lines.Text())
		if !ok {
			failed++
		}
		if done {
			return failed, nil
		}
	}
	return failed, errors.Join(ctx.Err(), lines.Err())
}

// line runs one line. done reports whether it ends the shell, ok whether it succeeded.
func (s *Shell) line(ctx context.Context, text string) (done, ok bool) {
	words, err := Words(text)
	if err != nil {
		fmt.Fprintln(s.Errors, err)
		return false, false
	}
	if len(words) > 0 && words[0] == "dkvctl" {
		words = words[1:]
	}
	if len(words) == 0 || strings.HasPrefix(words[0], "#") {
		return false, true
	}
	switch words[0] {
	case "exit", "quit", `\q`:
		return true, true
	}
	return false, s.Run(ctx, words)
}

// OnTerminal reads lines with a prompt until exit or Ctrl-D. Ctrl-C clears the line, or stops
// the command that runs. The terminal is then as it was before.
func (s *Shell) OnTerminal(ctx context.Context, in, out *os.File) error {
	t := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{&keys{in: in}, out}, s.Prompt)
	t.History = s.History
	c := &completer{env: s.Env, keys: s.Keys, show: func(words []string) {
		_, _ = io.WriteString(t, strings.Join(printable(words), "  ")+"\n") // what was typed stays below
	}}
	t.AutoCompleteCallback = c.key
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	for {
		text, err := s.read(ctx, t, in, out, signals)
		if err != nil {
			return ignoreEnd(err)
		}
		if done, ended := s.interruptible(ctx, text, signals); done || ended {
			return nil
		}
	}
}

// ignoreEnd returns nil for the end of the input.
func ignoreEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// read reads one line in raw mode. A signal that ends the program ends it.
func (s *Shell) read(ctx context.Context, t *term.Terminal, in, out *os.File, signals <-chan os.Signal) (string, error) {
	before, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return "", err
	}
	defer func() { _ = term.Restore(int(in.Fd()), before) }() // there is nothing else to try
	if width, height, err := term.GetSize(int(out.Fd())); err == nil && width > 0 {
		_ = t.SetSize(width, height) // it keeps the size that it has
	}
	type typed struct {
		text string
		err  error
	}
	lines := make(chan typed, 1)
	go func() { // ends with the next line; after a signal, with the process
		text, err := t.ReadLine()
		lines <- typed{text, err}
	}()
	for {
		select {
		case l := <-lines:
			if errors.Is(l.err, term.ErrPasteIndicator) {
				l.err = nil
			}
			return l.text, l.err
		case sig := <-signals:
			if sig != os.Interrupt {
				return "", io.EOF
			}
		}
	}
}

// interruptible runs a line until Ctrl-C stops it. ended reports whether another signal has
// come, which ends the shell. What ends ctx does not matter here: it is these signals.
func (s *Shell) interruptible(ctx context.Context, text string, signals <-chan os.Signal) (done, ended bool) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	over := make(chan bool, 1)
	go func() {
		done, _ := s.line(ctx, text)
		over <- done
	}()
	for {
		select {
		case done := <-over:
			return done, ended
		case sig := <-signals:
			ended = ended || sig != os.Interrupt
			cancel()
		}
	}
}

// keys reads what is typed. Ctrl-C becomes the keys that clear the line: the terminal would
// take it for the end of the input.
type keys struct {
	in   io.Reader
	left []byte
}

const clearLine = "\x05\x15" // to the end of the line, and delete to its beginning

func (k *keys) Read(p []byte) (int, error) {
	if len(k.left) == 0 {
		buf := make([]byte, 256)
		n, err := k.in.Read(buf)
		if n == 0 {
			return 0, err
		}
		k.left = []byte(strings.ReplaceAll(string(buf[:n]), "\x03", clearLine))
	}
	n := copy(p, k.left)
	k.left = k.left[n:]
	return n, nil
}

// printable shows keys without what would move the cursor.
func printable(words []string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f {
				return '?'
			}
			return r
		}, strings.ToValidUTF8(w, "?"))
	}
	return out
}
