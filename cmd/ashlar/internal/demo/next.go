package demo

import (
	"fmt"
	"os"
	"path/filepath"
)

// nextCommands are three commands that work on what the demo left behind: they look
// into the two refused boots and repeat the appraisal of the good one.
func (d *demo) nextCommands() []string {
	dir := relative(d.opt.Dir)
	of := func(number int, file string) string {
		b := d.boots[number-1]
		return filepath.Join(dir, b.directory(), file)
	}
	return []string{
		fmt.Sprintf("%s eventlog %s", d.opt.Self, of(3, fileEventLog)),
		fmt.Sprintf("%s ima %s", d.opt.Self, of(4, fileIMA)),
		fmt.Sprintf("%s appraise tpm-quote %s --key %s --refvalues %s --nonce %s", d.opt.Self,
			of(2, fileBundle), of(2, fileAK), filepath.Join(dir, fileReferences), d.boots[1].Nonce),
	}
}

// relative gives the path from the working directory where that is shorter to type.
func relative(path string) string {
	if here, err := os.Getwd(); err == nil {
		if short, err := filepath.Rel(here, path); err == nil && len(short) < len(path) {
			return short
		}
	}
	return path
}
