package main

import (
	"fmt"
	"io"
	"os"
	"syscall"
)

// A toolLog is where a tool says what it does: standard output, or the end of
// the file of --logfile, which then has its errors too.
type toolLog struct {
	out  io.Writer
	file *os.File
}

// openLog opens a log file, or stands for out where none is named. It follows
// no symbolic link, and waits at no pipe, since the directory may be another user's.
func openLog(path string, out io.Writer) (*toolLog, error) {
	if path == "" {
		return &toolLog{out: out}, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o640)
	if err != nil {
		return nil, err
	}
	return &toolLog{out: f, file: f}, nil
}

func (l *toolLog) printf(format string, args ...any) { fmt.Fprintf(l.out, format, args...) }

// failed ends the log with the error of the tool, if there is one, and gives
// what the tool is to return.
func (l *toolLog) failed(tool string, err error) error {
	if l.file == nil {
		return err
	}
	if err != nil {
		l.printf("%s: %v\n", tool, err)
		err = errSaid
	}
	if closing := l.file.Close(); err == nil {
		err = closing
	}
	return err
}
