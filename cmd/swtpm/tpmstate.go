package main

import (
	"fmt"
	"strings"

	"github.com/ashlar-cloud/ashlar/internal/store"
	"github.com/ashlar-cloud/ashlar/swtpm"
)

// openState opens the directory, or the one file, that --tpmstate names. What is
// written is always synced, so that fsync changes nothing.
func openState(value string) (*store.Dir, error) {
	p, err := parseParams("tpmstate", value, "dir", "backend-uri", "mode", "lock", "backup", "fsync")
	if err != nil {
		return nil, err
	}
	path, single, err := statePath(p)
	if err != nil {
		return nil, err
	}
	var opt store.Options
	if opt.Mode, err = p.mode("mode", 0o640); err != nil {
		return nil, err
	}
	lock, fsync := !single, false // as swtpm's backends do by themselves
	flags := map[string]*bool{"backup": &opt.Backup, "fsync": &fsync}
	if p.has("lock") {
		flags["lock"] = &lock
	}
	if err := p.flags(flags); err != nil {
		return nil, err
	}
	opt.NoLock = !lock
	switch {
	case single && opt.Backup:
		return nil, fmt.Errorf("--tpmstate: backup is for a directory, not for %s", p.str("backend-uri"))
	case single:
		return swtpm.OpenFile(path, opt)
	}
	return store.OpenDir(path, opt)
}

// statePath says where the state is, and whether that is a file.
func statePath(p params) (path string, single bool, err error) {
	if p.has("dir") == p.has("backend-uri") {
		return "", false, fmt.Errorf("--tpmstate needs dir=DIR, or backend-uri=dir://DIR or file://FILE")
	}
	if p.has("dir") {
		return p.str("dir"), false, nil
	}
	kind, path, _ := strings.Cut(p.str("backend-uri"), "://")
	if kind != "dir" && kind != "file" || path == "" {
		return "", false, p.bad("backend-uri", "dir://DIR or file://FILE")
	}
	return path, kind == "file", nil
}
