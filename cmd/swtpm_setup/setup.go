package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ashlar-cloud/ashlar/identity"
	"github.com/ashlar-cloud/ashlar/internal/clock"
	"github.com/ashlar-cloud/ashlar/internal/store"
	"github.com/ashlar-cloud/ashlar/swtpm"
	"github.com/ashlar-cloud/ashlar/tpm"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// setup is swtpm_setup: it makes a TPM as its maker would, with its keys and their
// certificates.
func setup(args []string, out, errs io.Writer) error {
	o, err := parseSetup(args)
	switch {
	case err != nil:
		return err
	case o.helpMe:
		fmt.Fprintf(out, setupUsage, configDefault())
		return nil
	case o.makeConfigFiles:
		return createConfigFiles(o.configFiles, out)
	case o.version:
		fmt.Fprintf(out, "TPM emulator setup tool version %s, Ashlar\n", swtpm.Version)
		return nil
	}
	log, err := openLog(o.logfile, out)
	if err != nil {
		return fmt.Errorf("the log file cannot be opened: %w", err)
	}
	s := &setupRun{setupOptions: o, log: log, out: out}
	return log.failed("swtpm_setup", s.run())
}

func configDefault() string {
	path, err := userFile("", "swtpm_setup.conf")
	if err != nil {
		return "/etc/swtpm_setup.conf"
	}
	return path
}

// setupRun is one run of swtpm_setup.
type setupRun struct {
	*setupOptions
	log *toolLog
	out io.Writer

	dir   *store.Dir
	conf  config
	key   *swtpm.Key   // what the state is encrypted under, nil for none
	shown *tpm.Profile // what the new TPM shows, nil for null
	keys  setupKeys
	pcrs  []string     // names of the banks that are to be active, nil to leave them
	work  string       // the directory that certificates are made in
	files []stagedFile // certificates for the user, who gets them when the TPM is there
}

func (s *setupRun) run() error {
	if s.capabilities {
		printSetupCapabilities(s.out)
		return nil
	}
	if err := s.noTPM12(); err != nil {
		return err
	}
	if s.runas != "" {
		if err := runAs(s.runas); err != nil {
			return err
		}
	}
	if s.profiles {
		return s.printProfiles()
	}
	s.sayUnused()
	done, err := s.open()
	if done || err != nil {
		return err
	}
	err = s.prepare()
	defer func() { s.key.Wipe() }()
	if err != nil {
		return err
	}
	if err := s.dir.Lock(0); err != nil {
		return err
	}
	defer func() { _ = s.dir.Unlock() }()
	if done, err = s.taken(); done || err != nil { // another may have been faster
		return err
	}
	what := "manufacturing"
	if s.reconfigure {
		what = "reconfiguration"
	}
	s.log.printf("Starting vTPM %s as %s @ %s\n", what, whoAmI(), now())
	if err = s.author(); err == nil {
		s.log.printf("Successfully authored TPM state.\n")
	}
	s.log.printf("Ending vTPM %s @ %s\n", what, now())
	return err
}

// sayUnused tells of programs that the user has named and that are not run.
func (s *setupRun) sayUnused() {
	for option, program := range map[string]string{"--tpm": s.tpm, "--swtpm_ioctl": s.ioctl} {
		if program != "" {
			s.log.printf("%s %s is not used: this program makes the TPM itself.\n", option, program)
		}
	}
}

func now() string { return time.Now().Format("Mon 02 Jan 2006 03:04:05 PM MST") }

func whoAmI() string {
	name, group := "<unknown>", "<unknown>"
	if u, err := user.Current(); err == nil {
		name = u.Username
		if g, err := user.LookupGroupId(u.Gid); err == nil {
			group = g.Name
		}
	}
	return name + ":" + group
}

// open checks what can be checked at once. done says that a TPM is there and shall
// stay.
func (s *setupRun) open() (done bool, err error) {
	if err := s.check(); err != nil {
		return false, err
	}
	path, single := strings.CutPrefix(s.state, "file://")
	if single {
		s.dir, err = swtpm.OpenFile(path, store.Options{})
		path = filepath.Dir(path)
	} else {
		path = strings.TrimPrefix(path, "dir://")
		s.dir, err = store.OpenDir(path, store.Options{})
	}
	if err != nil {
		return false, err
	}
	for _, dir := range []string{path, s.certFiles} {
		if dir != "" && unix.Access(dir, unix.R_OK|unix.W_OK|unix.X_OK) != nil {
			return false, fmt.Errorf("%s is no directory that this user can read and write", dir)
		}
	}
	return s.taken()
}

// taken looks for a TPM that is there already.
func (s *setupRun) taken() (done bool, err error) {
	if s.reconfigure {
		return false, nil
	}
	list, err := swtpm.States(s.dir)
	switch damaged := errors.Is(err, store.ErrDamaged); {
	case err != nil && !damaged:
		return false, err
	case len(list) == 0 && !damaged, s.overwrite && !s.notOverwrite:
		return false, nil
	case s.notOverwrite && (damaged || list[0].Name == "permall"):
		s.log.printf("Not overwriting existing state file.\n")
		return true, nil
	case damaged:
		return false, err
	}
	return false, fmt.Errorf("found existing TPM state '%s' in %s: give --overwrite to lose it, or --not-overwrite to keep it", list[0].Name, s.dir.Path())
}

// prepare reads all that says what is to be made.
func (s *setupRun) prepare() (err error) {
	path, err := userFile(s.config, "swtpm_setup.conf")
	if err == nil {
		s.conf, err = readConfig(path)
	}
	if err != nil {
		return fmt.Errorf("the configuration cannot be read: %w", err)
	}
	if s.pcrs, err = s.activeBanks(); err != nil {
		return err
	}
	if s.shown, err = s.readProfile(); err != nil {
		return err
	}
	if !s.reconfigure {
		if s.keys, err = s.chooseKeys(); err != nil {
			return err
		}
	}
	s.key, err = s.readKey()
	return err
}

// readKey reads what the state is to be encrypted under, nil where it is not.
func (s *setupRun) readKey() (*swtpm.Key, error) {
	mode := s.cipher
	if mode == "" {
		mode = "aes-128-cbc"
	}
	for _, from := range []struct{ option, value, name, what string }{
		{"keyfile", s.keyfile, "file", "with a provided key"},
		{"pwdfile", s.pwdfile, "pwdfile", "using a key derived from a passphrase"},
		{"keyfile-fd", s.keyfileFD, "fd", "with a provided key (fd)"},
		{"pwdfile-fd", s.pwdfileFD, "pwdfd", "using a key derived from a passphrase (fd)"},
	} {
		if from.value == "" {
			continue
		}
		key, err := swtpm.ReadKey(from.name + "=" + from.value + ",mode=" + mode)
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", from.option, err)
		}
		s.log.printf("  The TPM's state will be encrypted %s.\n", from.what)
		return key, nil
	}
	if !slices.Contains([]string{"aes-128-cbc", "aes-cbc", "aes-256-cbc"}, mode) {
		return nil, fmt.Errorf("--cipher %s is none of aes-128-cbc, aes-cbc and aes-256-cbc", mode)
	}
	return nil, nil
}

// activeBanks lists the banks that are to be active: as given, as configured, or
// SHA-256's alone.
func (s *setupRun) activeBanks() ([]string, error) {
	list := strings.Join(s.banks, ",")
	if strings.Trim(list, ", ") == "" {
		list, _ = s.conf.value("active_pcr_banks")
	}
	switch list {
	case "":
		return []string{"sha256"}, nil
	case "-":
		return nil, nil
	}
	return strings.Split(list, ","), nil
}

// engineConfig is what an engine needs whose TPM is being made.
func engineConfig() tpm.Config { return tpm.Config{Clock: clock.NewSystem(), Entropy: rand.Reader} }

// author makes the TPM, or changes the one that is there.
func (s *setupRun) author() error {
	if s.reconfigure {
		return s.change()
	}
	if s.ekCert || s.platformCert {
		dir, err := os.MkdirTemp("", "swtpm_setup.certs.")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		s.work = dir
	}
	cfg := engineConfig()
	b, err := tpm.Manufacture(cfg, tpm.Options{Profile: s.shown})
	if err != nil {
		return err
	}
	defer clear(b)
	e, err := tpm.New(cfg, b)
	if err != nil {
		return err
	}
	defer s.discardFiles()
	if err := s.make(engineDevice(e), e.Profile()); err != nil {
		return err
	}
	permanent := e.Permanent()
	if permanent == nil {
		return errors.New("the TPM's state cannot be had")
	}
	defer clear(permanent)
	if _, err := swtpm.Install(s.dir, s.key, cfg, permanent); err != nil {
		return err
	}
	return s.publishFiles()
}

// make runs the commands of a TPM's maker, from power on to power off.
func (s *setupRun) make(d device, p *tpm.Profile) error {
	if err := d.startup(); err != nil {
		return err
	}
	s.log.printf("Active profile: %s\n", p.JSON())
	if s.keys.srk != nil {
		if _, err := d.provision(s.keys.srk); err != nil {
			return fmt.Errorf("the storage primary key cannot be made: %w", err)
		}
		s.log.printf("Successfully created storage primary key with handle 0x%x.\n", uint32(s.keys.srk.Handle))
	}
	c := certifier{setupRun: s, tpm: d, profile: p}
	for i := range s.keys.eks {
		if err := s.makeEK(d, &c, &s.keys.eks[i], i == 0); err != nil {
			return err
		}
	}
	for _, k := range []struct {
		kind, name string
		key        *identity.Provision
	}{{"iak", "IAK", s.keys.iak}, {"idevid", "IDevID", s.keys.idevid}} {
		if k.key == nil {
			continue
		}
		if err := s.makeDevice(d, &c, k.key, k.kind, k.name); err != nil {
			return err
		}
	}
	if err := s.activate(d); err != nil {
		return err
	}
	if s.display {
		if err := s.show(d); err != nil {
			return err
		}
	}
	return d.shutdown()
}

// keyName is a key's kind in words for people.
func keyName(kind string) string {
	if bits, ok := strings.CutPrefix(kind, "rsa"); ok {
		return "RSA " + bits
	}
	return kind
}

// makeEK makes an endorsement key and its certificate, and with the first key that
// of the platform.
func (s *setupRun) makeEK(d device, c *certifier, key *identity.Provision, first bool) error {
	name := keyName(key.Kind)
	public, err := d.provision(key)
	if err != nil {
		return fmt.Errorf("the %s EK cannot be made: %w", name, err)
	}
	s.log.printf("Successfully created %s EK with handle 0x%x.\n", name, uint32(key.Handle))
	if key.TemplateIndex != 0 {
		if err := d.store(key.TemplateIndex, tpm2.Marshal(&key.Template), s.lock); err != nil {
			return err
		}
		s.log.printf("Successfully created NVRAM area 0x%x for %s EK template.\n", uint32(key.TemplateIndex), name)
	}
	if s.ekCert {
		der, err := c.certify("ek", public, key)
		if err == nil {
			err = d.store(key.CertIndex, der, s.lock)
		}
		if err != nil {
			return err
		}
		s.log.printf("Successfully created NVRAM area 0x%x for %s EK certificate.\n", uint32(key.CertIndex), name)
	}
	if !s.platformCert || !first {
		return nil
	}
	der, err := c.certify("platform", public, key)
	if err == nil {
		err = d.store(identity.PlatformCertIndex, der, s.lock)
	}
	if err == nil {
		s.log.printf("Successfully created NVRAM area 0x%x for platform certificate.\n", uint32(identity.PlatformCertIndex))
	}
	return err
}

// makeDevice makes a key of the device's identity and its certificate.
func (s *setupRun) makeDevice(d device, c *certifier, key *identity.Provision, kind, name string) error {
	public, err := d.provision(key)
	if err != nil {
		return fmt.Errorf("the %s %s cannot be made: %w", keyName(key.Kind), name, err)
	}
	s.log.printf("Successfully created %s %s primary key with handle 0x%x.\n", keyName(key.Kind), name, uint32(key.Handle))
	der, err := c.certify(kind, public, key)
	if err == nil {
		err = d.store(key.CertIndex, der, s.lock)
	}
	if err == nil {
		s.log.printf("Successfully created NVRAM area 0x%x for %s certificate.\n", uint32(key.CertIndex), name)
	}
	return err
}

// activate makes the PCR banks active that were asked for. Those that the TPM does
// not have are left out, as swtpm_setup does, but one must be left.
func (s *setupRun) activate(d device) error {
	if s.pcrs == nil {
		return nil
	}
	all, err := d.banks()
	if err != nil {
		return err
	}
	var wanted []tpm2.AlgID
	var chosen, there []string
	for _, bank := range all {
		there = append(there, bank.String())
	}
	for _, name := range s.pcrs {
		for _, bank := range all {
			if bank.String() == name && !slices.Contains(wanted, bank) {
				wanted, chosen = append(wanted, bank), append(chosen, name)
			}
		}
	}
	if len(wanted) == 0 {
		return fmt.Errorf("no PCR banks could be allocated: the TPM has %s, and none of %s", strings.Join(there, ","), strings.Join(s.pcrs, ","))
	}
	if err := d.allocate(wanted, all); err != nil {
		return err
	}
	s.log.printf("Successfully activated PCR banks %s among %s.\n", strings.Join(chosen, ","), strings.Join(there, ","))
	return nil
}

// change activates PCR banks of the TPM that is there.
func (s *setupRun) change() (err error) {
	h := swtpm.NewHost(swtpm.Config{Dir: s.dir, Key: s.key, Engine: engineConfig(), Log: slog.New(slog.NewTextHandler(s.log.out, nil))})
	defer func() { err = errors.Join(err, h.Close()) }()
	if err := h.Start(); err != nil {
		return err
	}
	if rc := h.Startup(false); rc != tpm2.RCSuccess {
		return fmt.Errorf("the TPM does not start: %w: a guest that was suspended must be resumed and shut down first", rc)
	}
	d := device(func(cmd []byte) []byte { return h.Execute(0, cmd, nil) })
	if err := s.activate(d); err != nil {
		return err
	}
	return d.shutdown()
}
