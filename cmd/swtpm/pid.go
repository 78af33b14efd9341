package main

import (
	"fmt"
	"os"
	"syscall"
)

// writePID writes the process's number where --pid asks, and gives the path of that
// file, which goes at the end; none where it is not asked for.
func writePID(value string) (path string, err error) {
	if value == "" {
		return "", nil
	}
	p, err := parseParams("pid", value, "file", "fd")
	if err != nil {
		return "", err
	}
	f, err := pidFile(p)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if path = p.str("file"); path == "" {
		path, _ = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	}
	if _, err := fmt.Fprint(f, os.Getpid()); err != nil {
		return "", fmt.Errorf("--pid: %w", err)
	}
	return path, nil
}

func pidFile(p params) (*os.File, error) {
	switch {
	case p.has("file") && p.has("fd"):
		return nil, fmt.Errorf("--pid takes file or fd, not both")
	case p.has("file"):
		f, err := os.OpenFile(p.str("file"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, 0o644)
		if err != nil {
			return nil, fmt.Errorf("--pid: %w", err)
		}
		return f, nil
	case p.has("fd"):
		f, err := inherited(p, "fd")
		if err != nil {
			return nil, err
		}
		if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
			f.Close()
			return nil, p.bad("fd", "a file")
		}
		return f, nil
	}
	return nil, fmt.Errorf("--pid needs file=PATH or fd=N")
}
