package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/ashlar-cloud/ashlar/internal/clock"
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
	tells := o.printStates || o.printProfiles || o.info != ""
	if o.daemon && !isDaemon() && !tells {
		return daemonize(&o)
	}
	waits := whoWaits()
	if o.chroot != "" {
		if err := changeRoot(o.chroot); err != nil {
			return err
		}
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
	return serve(&o, waits)
}

// serve opens everything in the order of swtpm, runs, and cleans up.
func serve(o *options, waits waiting) (err error) {
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
	if o.log != "" {
		defer func() { // also where libvirt looks for it
			if err != nil {
				log.Error(err.Error())
			}
		}()
	}
	defer closeChannels(s) // where it does not come to Serve
	if err := openChannels(s, o); err != nil {
		return err
	}
	cfg, start, err := hostConfig(o, log)
	if err != nil {
		return err
	}
	capture, err := openCapture(o.pcap)
	if err != nil {
		return err
	}
	if capture != nil {
		cfg.Record = capture.record
		defer capture.close()
	}
	pid, err := writePID(o.pid)
	if err != nil {
		return err
	}
	if pid != "" {
		defer os.Remove(pid)
	}
	defer wipe(cfg.Key, cfg.MigrationKey)
	return o.serveConfined(ctx, s, cfg, start, pid, waits)
}

// serveConfined gives up what is not needed when all is open, powers the TPM on where
// the flags ask for it, and serves.
func (o *options) serveConfined(ctx context.Context, s *swtpm.Server, cfg swtpm.Config, start startup, pid string, waits waiting) (err error) {
	warnings, err := o.confineTo(cfg.Dir, pid)
	if err != nil {
		return err
	}
	s.Host = swtpm.NewHost(cfg)
	defer func() {
		if e := s.Host.Close(); err == nil {
			err = e
		}
	}()
	if err := start.run(s.Host); err != nil {
		return err
	}
	for _, w := range warnings {
		cfg.Log.Warn(w)
	}
	waits.tell()
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
		Idle:   debug.FreeOSMemory, // what commands have used, with what it held
	}
	var start startup
	var err error
	if cfg.Key, cfg.MigrationKey, err = readKeys(o); err != nil {
		return cfg, start, err
	}
	if o.tpmstate == "" {
		return cfg, start, fmt.Errorf("where is the state? Give --tpmstate dir=DIR, or TPM_PATH in the environment")
	}
	p, err := parseParams("locality", o.locality, "reject-locality-4", "allow-set-locality")
	if err != nil {
		return cfg, start, err
	}
	if err := p.flags(map[string]*bool{"reject-locality-4": &cfg.RejectLocality4, "allow-set-locality": &cfg.AllowSetLocality}); err != nil {
		return cfg, start, err
	}
	cfg.AllowSetLocality = cfg.AllowSetLocality || o.vtpmProxy // the kernel sends it
	if p, err = parseParams("migration", o.migration, "incoming", "release-lock-outgoing"); err != nil {
		return cfg, start, err
	}
	if err := p.flags(map[string]*bool{"incoming": &cfg.Incoming, "release-lock-outgoing": &cfg.ReleaseOutgoing}); err != nil {
		return cfg, start, err
	}
	if start, err = parseFlags(o.flags, o.vtpmProxy); err != nil {
		return cfg, start, err
	}
	cfg.NoAutoShutdown = start.noShutdown
	if cfg.Profile, err = openProfile(o.profile); err != nil {
		return cfg, start, err
	}
	if cfg.Dir, err = openState(o.tpmstate); err != nil {
		return cfg, start, err
	}
	return cfg, start, cfg.Dir.Make()
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
	var on, clears, none, deactivated bool
	if err := p.flags(map[string]*bool{"not-need-init": &on, "startup-clear": &clears, "startup-state": &s.state,
		"startup-none": &none, "startup-deactivated": &deactivated, "disable-auto-shutdown": &s.noShutdown}); err != nil {
		return s, err
	}
	switch {
	case deactivated:
		return s, fmt.Errorf("--flags startup-deactivated is for a TPM 1.2 only")
	case clears && s.state, clears && none, s.state && none:
		return s, fmt.Errorf("--flags takes one kind of startup only")
	}
	s.send = s.state || clears || proxy && !none
	s.powerOn = s.send || on || proxy
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
