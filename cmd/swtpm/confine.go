package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/ashlar-cloud/ashlar/internal/confine"
	"github.com/ashlar-cloud/ashlar/internal/store"
)

// filter reads --seccomp; asked is whether it was given. As in swtpm, a system call
// that is not on the list kills where nothing else is said.
func (o *options) filter() (a confine.Action, asked bool, err error) {
	p, err := parseParams("seccomp", o.seccomp, "action")
	if err != nil || !p.has("action") {
		return confine.Kill, false, err
	}
	if a, err = confine.ParseAction(p.str("action")); err != nil {
		return "", true, fmt.Errorf("--seccomp action=%w", err)
	}
	return a, true, nil
}

// confineTo leaves this process the state's directory or file, what is open, and the removal
// of the sockets and of the pid file at its end. It comes before the state is read,
// so that a hostile one finds the doors closed. What the kernel cannot do is among
// the warnings, but for a filter that was asked for.
func (o *options) confineTo(state *store.Dir, pid string) (warnings []string, err error) {
	action, asked, err := o.filter()
	if err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 {
		warnings = append(warnings, "this is root, who may do more than a TPM needs: choose a user by --runas")
	}
	plan := confine.Plan{Remove: o.leftBehind(pid), Calls: action, Insist: asked && action != confine.None}
	if state.Single() {
		plan.Files = []string{state.Path()}
	} else {
		plan.Dirs = []string{state.Path()}
	}
	lacking, err := confine.Apply(plan)
	if err != nil {
		return nil, fmt.Errorf("confinement: %w", err)
	}
	return append(warnings, lacking...), nil
}

// leftBehind lists the files that are removed at the end, and are there: the pid file
// and the sockets that the options make.
func (o *options) leftBehind(pid string) (paths []string) {
	candidates := []string{pid}
	for _, value := range []string{o.ctrl, o.server} {
		for part := range strings.SplitSeq(value, ",") {
			if path, ok := strings.CutPrefix(part, "path="); ok {
				candidates = append(candidates, path)
			}
		}
	}
	for _, path := range candidates {
		if _, err := os.Lstat(path); err == nil {
			paths = append(paths, path)
		}
	}
	return paths
}
