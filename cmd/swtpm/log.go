package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// openLog opens what --log names; without it, standard error.
func openLog(value string) (*slog.Logger, error) {
	h := &lines{out: os.Stderr, prefix: "swtpm: ", level: slog.LevelWarn, mu: new(sync.Mutex)}
	if value == "" {
		return slog.New(h), nil
	}
	p, err := parseParams("log", value, "file", "fd", "level", "prefix", "truncate")
	if err != nil {
		return nil, err
	}
	level, err := p.number("level", 100)
	if err != nil {
		return nil, err
	}
	switch {
	case level <= 0: // not given, or what swtpm takes for 1
	case level == 1:
		h.level = slog.LevelError
	case level < 5:
		h.level = slog.LevelInfo
	default:
		h.level = slog.LevelDebug
	}
	truncate, err := p.flag("truncate")
	if err != nil {
		return nil, err
	}
	h.prefix = p.str("prefix")
	switch {
	case p.has("file") && p.has("fd"):
		return nil, fmt.Errorf("--log takes file or fd, not both")
	case p.str("file") == "-":
		return slog.New(slog.DiscardHandler), nil
	case p.has("file"):
		flag := os.O_WRONLY | os.O_CREATE | os.O_APPEND | syscall.O_NOFOLLOW
		if truncate {
			flag |= os.O_TRUNC
		}
		f, err := os.OpenFile(p.str("file"), flag, 0o600)
		if err != nil {
			return nil, fmt.Errorf("--log: %w", err)
		}
		h.out = f
	case p.has("fd"):
		f, err := inherited(p, "fd")
		if err != nil {
			return nil, err
		}
		if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0); err != nil || flags&unix.O_ACCMODE == unix.O_RDONLY {
			f.Close()
			return nil, p.bad("fd", "open for writing")
		}
		h.out = f
	}
	return slog.New(h), nil
}

// lines writes log records as swtpm does: a prefix and one line of text.
type lines struct {
	out    io.Writer
	prefix string
	level  slog.Level
	attrs  string
	mu     *sync.Mutex // guards out
}

// Enabled implements slog.Handler.
func (l *lines) Enabled(_ context.Context, level slog.Level) bool { return level >= l.level }

// Handle implements slog.Handler.
func (l *lines) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(l.prefix)
	b.WriteString(r.Message)
	b.WriteString(l.attrs)
	r.Attrs(func(a slog.Attr) bool {
		writeAttr(&b, a)
		return true
	})
	b.WriteByte('\n')
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := io.WriteString(l.out, b.String())
	return err
}

func writeAttr(b *strings.Builder, a slog.Attr) {
	if a.Key == "err" {
		fmt.Fprintf(b, ": %v", a.Value)
		return
	}
	fmt.Fprintf(b, " %s=%v", a.Key, a.Value)
}

// WithAttrs implements slog.Handler.
func (l *lines) WithAttrs(attrs []slog.Attr) slog.Handler {
	var b strings.Builder
	for _, a := range attrs {
		writeAttr(&b, a)
	}
	c := *l
	c.attrs += b.String()
	return &c
}

// WithGroup implements slog.Handler; groups are not shown.
func (l *lines) WithGroup(string) slog.Handler { return l }
