package demo

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/ashlar-cloud/ashlar/cmd/ashlar/internal/guest"
)

// errNoConsent is what the demo ends with when packages may not be installed.
var errNoConsent = errors.New("nothing was installed; run it with YES=1 (or --yes), or install the packages yourself")

// prepareHost says which packages are missing, asks, installs them and gives where
// everything is.
func prepareHost(ctx context.Context, opt *Options) (guest.Host, error) {
	t := &teller{out: opt.Out}
	host, missing := guest.FindHost()
	if len(missing) == 0 {
		t.say("Packages   qemu-system-x86, ovmf and busybox-static are there; nothing to install.")
		return host, nil
	}
	t.say("Packages   These Debian packages are missing and will be installed: %s", strings.Join(missing, ", "))
	for _, command := range guest.InstallCommands(missing) {
		t.say("             %s", strings.Join(command, " "))
	}
	if !opt.Yes && os.Getenv("CI") == "" {
		t.say("           Install them? [y/N]")
		if !agrees(opt.In) {
			return host, errNoConsent
		}
	}
	if err := guest.Install(ctx, missing, opt.Out); err != nil {
		return host, err
	}
	host, missing = guest.FindHost()
	if len(missing) > 0 {
		return host, errors.New("still missing after the installation: " + strings.Join(missing, ", "))
	}
	return host, nil
}

// agrees reads one line; only a yes is one.
func agrees(in io.Reader) bool {
	line, _ := bufio.NewReader(in).ReadString('\n') // end of input is a no
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true
	}
	return false
}
