package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
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
	case level < 0:
	case level == 0:
		return slog.New(slog.DiscardHandler), nil
	case level == 1:
		h.level = slog.LevelError
	case level < 5:
		h.level = slog.LevelInfo
	default:
		h.level = slog.LevelDebug
	}
	if p.has("prefix") {
		h.prefix = p.str("prefix")
	}
	switch {
	case p.str("file") == "-":
		return slog.New(slog.DiscardHandler), nil
	case p.has("file"):
		flag := os.O_WRONLY | os.O_CREATE | os.O_APPEND
		if p.has("truncate") {
			flag |= os.O_TRUNC
		}
		f, err := os.OpenFile(p.str("file"), flag, 0o640)
		if err != nil {
			return nil, fmt.Errorf("--log: %w", err)
		}
		h.out = f
	case p.has("fd"):
		if h.out, err = inherited(p, "fd"); err != nil {
			return nil, err
		}
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
