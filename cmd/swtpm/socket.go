package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/ashlar-cloud/ashlar/internal/clock"
	"github.com/ashlar-cloud/ashlar/internal/store"
	"github.com/ashlar-cloud/ashlar/swtpm"
	"github.com/ashlar-cloud/ashlar/tpm"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// serveBy is the verbs 'swtpm socket' and 'swtpm chardev'.
func serveBy(verb string, args []string) error {
	o, err := parseOptions(verb, args)
	if err != nil {
		return err
	}
	switch {
	case o.printHelp:
		fmt.Print(usages[verb])
		return nil
	case o.printVersion:
		printVersion()
		return nil
	case o.printCapabilities:
		printCapabilities()
		return nil
	}
	o.withEnvironment()
	if err := o.check(); err != nil {
		return err
	}
	switch {
	case o.printStates:
		return printStates(&o)
	case o.printProfiles:
		printProfiles()
		return nil
	case o.info != "":
		return printInfo(&o)
	}
	if o.daemon && !isDaemon() {
		return daemonize(&o)
	}
	return serve(&o)
}

// serve opens everything in the order of swtpm, runs, and cleans up.
func serve(o *options) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	s := &swtpm.Server{EndWithData: o.terminate}
	if o.verb == "chardev" {
		if s.Device, err = o.openDevice(); err != nil {
			return err
		}
	}
	if o.runas != "" {
		if err := runAs(o.runas); err != nil {
			return err
		}
	}
	log, err := openLog(o.log)
	if err != nil {
		return err
	}
	if err := openChannels(s, o); err != nil {
		return err
	}
	cfg, start, err := hostConfig(o, log)
	if err != nil {
		return err
	}
	remove, err := writePID(o.pid)
	if err != nil {
		return err
	}
	defer remove()
	s.Host = swtpm.NewHost(cfg)
	defer func() {
		if e := s.Host.Close(); err == nil {
			err = e
		}
	}()
	if err := start.run(s.Host); err != nil {
		return err
	}
	ready()
	return s.Serve(ctx)
}

func openChannels(s *swtpm.Server, o *options) error {
	server := o.server
	switch {
	case o.verb == "chardev":
	case server != "":
	case o.fd != "":
		server = "type=tcp,fd=" + o.fd
	case o.port != "":
		server = "type=tcp,disconnect,port=" + o.port
	case o.ctrl == "":
		return fmt.Errorf("no way in: give --ctrl, --server or both, see 'swtpm socket --help'")
	}
	if o.ctrl != "" {
		if err := openCtrl(s, o.ctrl); err != nil {
			return err
		}
	}
	if server == "" {
		return nil
	}
	return openServer(s, server)
}

// hostConfig reads all that concerns the TPM itself.
func hostConfig(o *options, log *slog.Logger) (swtpm.Config, startup, error) {
	cfg := swtpm.Config{
		Engine: tpm.Config{Clock: clock.NewSystem(), Entropy: rand.Reader, Log: log},
		Log:    log,
	}
	var start startup
	if o.tpmstate == "" {
		return cfg, start, fmt.Errorf("where is the state? Give --tpmstate dir=DIR, or TPM_PATH in the environment")
	}
	p, err := parseParams("locality", o.locality, "reject-locality-4", "allow-set-locality")
	if err != nil {
		return cfg, start, err
	}
	cfg.RejectLocality4 = p.has("reject-locality-4")
	cfg.AllowSetLocality = p.has("allow-set-locality") || o.vtpmProxy // the kernel sends it
	if p, err = parseParams("migration", o.migration, "incoming", "release-lock-outgoing"); err != nil {
		return cfg, start, err
	}
	cfg.Incoming, cfg.ReleaseOutgoing = p.has("incoming"), p.has("release-lock-outgoing")
	if start, err = parseFlags(o.flags, o.vtpmProxy); err != nil {
		return cfg, start, err
	}
	cfg.NoAutoShutdown = start.noShutdown
	if cfg.Profile, err = openProfile(o.profile); err != nil {
		return cfg, start, err
	}
	cfg.Dir, err = openState(o.tpmstate)
	return cfg, start, err
}

// openState opens the directory that --tpmstate names.
func openState(value string) (*store.Dir, error) {
	p, err := parseParams("tpmstate", value, "dir", "backend-uri", "mode", "lock", "fsync")
	if err != nil {
		return nil, err
	}
	mode, err := p.mode("mode", 0o640)
	if err != nil {
		return nil, err
	}
	lock := true
	if p.has("lock") {
		if lock, err = p.flag("lock"); err != nil {
			return nil, err
		}
	}
	path := p.str("dir")
	if uri := p.str("backend-uri"); uri != "" {
		var ok bool
		if path, ok = strings.CutPrefix(uri, "dir://"); !ok {
			return nil, p.bad("backend-uri", "dir://DIR, the only kind in this version")
		}
	}
	if path == "" {
		return nil, fmt.Errorf("--tpmstate needs dir=DIR or backend-uri=dir://DIR")
	}
	return store.OpenDir(path, store.Options{Mode: mode, NoLock: !lock})
}

// startup is what --flags asks for.
type startup struct {
	powerOn    bool
	send       bool // send Startup
	state      bool // of type STATE
	noShutdown bool
}

// parseFlags reads --flags. A TPM behind the kernel's proxy is on at once, and started
// unless the flags say otherwise: the kernel sends no Startup.
func parseFlags(value string, proxy bool) (startup, error) {
	var s startup
	p, err := parseParams("flags", value, "not-need-init", "startup-clear", "startup-state",
		"startup-none", "startup-deactivated", "disable-auto-shutdown")
	if err != nil {
		return s, err
	}
	if p.has("startup-deactivated") {
		return s, fmt.Errorf("--flags startup-deactivated is for a TPM 1.2 only")
	}
	given := 0
	for _, f := range []string{"startup-clear", "startup-state", "startup-none"} {
		if p.has(f) {
			given++
		}
	}
	if given > 1 {
		return s, fmt.Errorf("--flags takes one kind of startup only")
	}
	s.state = p.has("startup-state")
	s.send = s.state || p.has("startup-clear") || proxy && given == 0
	s.powerOn = s.send || p.has("not-need-init") || proxy
	s.noShutdown = p.has("disable-auto-shutdown")
	return s, nil
}

// run powers the TPM on where the flags ask for it.
func (s startup) run(h *swtpm.Host) error {
	if !s.powerOn {
		return nil
	}
	if err := h.Start(); err != nil {
		return err
	}
	if !s.send {
		return nil
	}
	if rc := h.Startup(s.state); rc != tpm2.RCSuccess {
		return fmt.Errorf("the TPM refused Startup: %w", rc)
	}
	return nil
}

// writePID writes the process's number where --pid asks, and gives what
// removes the file again.
func writePID(value string) (func(), error) {
	nothing := func() {}
	if value == "" {
		return nothing, nil
	}
	p, err := parseParams("pid", value, "file", "fd")
	if err != nil {
		return nothing, err
	}
	text := fmt.Appendf(nil, "%d", os.Getpid())
	if path := p.str("file"); path != "" {
		if err := os.WriteFile(path, text, 0o640); err != nil {
			return nothing, fmt.Errorf("--pid: %w", err)
		}
		return func() { os.Remove(path) }, nil
	}
	if !p.has("fd") {
		return nothing, fmt.Errorf("--pid needs file=PATH or fd=N")
	}
	f, err := inherited(p, "fd")
	if err != nil {
		return nothing, err
	}
	defer f.Close()
	if _, err := f.Write(text); err != nil {
		return nothing, fmt.Errorf("--pid: %w", err)
	}
	return nothing, nil
}
