package main

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/ashlar-cloud/ashlar/identity"
	"github.com/ashlar-cloud/ashlar/swtpm"
	"github.com/ashlar-cloud/ashlar/tpm"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// certifier has a TPM's keys certified by the tool that the configuration names.
type certifier struct {
	*setupRun
	tpm     device
	profile *tpm.Profile
	serial  string // of the TPM in certificates of the device's identity
}

// certify has the certificate of a key made and gives it in DER.
func (c *certifier) certify(kind string, public *tpm2.Public, key *identity.Provision) ([]byte, error) {
	param, err := keyParam(public, key.Kind)
	if err != nil {
		return nil, err
	}
	tool, _ := c.conf.value("create_certs_tool")
	if tool == "" {
		return nil, errors.New("the configuration names no program that makes certificates (create_certs_tool): name swtpm_localca there, or leave --create-ek-cert and --create-platform-cert out")
	}
	if err := c.call(tool, c.arguments(kind, param)); err != nil {
		return nil, err
	}
	path := filepath.Join(c.work, kind+".cert")
	der, err := readLimited(path, identity.MaxCertificate)
	if err != nil {
		return nil, fmt.Errorf("%s has made no certificate: %w", tool, err)
	}
	if kind == "platform" {
		return der, os.Remove(path)
	}
	if kind == "ek" && c.serial == "" && (c.keys.iak != nil || c.keys.idevid != nil) {
		if c.serial, err = c.tpmSerial(der); err != nil {
			return nil, err
		}
	}
	if c.certFiles != "" {
		if err := c.stageFile(fmt.Sprintf("%s-%s.crt", kind, key.Kind), der); err != nil {
			return nil, err
		}
	}
	return der, os.Remove(path)
}

// arguments are those of the tool, in swtpm_setup's order.
func (c *certifier) arguments(kind, param string) []string {
	option := "--ek"
	if kind == "iak" || kind == "idevid" {
		option = "--key"
	}
	args := []string{"--type", kind, option, param, "--dir", c.work}
	add := func(option, value string) {
		if value != "" {
			args = append(args, option, value)
		}
	}
	if c.signing {
		args = append(args, "--allow-signing")
		if c.decryption {
			args = append(args, "--decryption")
		}
	}
	add("--logfile", c.logfile)
	add("--vmid", c.vmid)
	args = append(args, makeArgs(c.profile)...)
	args = append(args, "--tpm2")
	for _, o := range []struct{ option, name string }{
		{"--configfile", "create_certs_tool_config"}, {"--optsfile", "create_certs_tool_options"},
	} {
		value, _ := c.conf.value(o.name)
		add(o.option, value)
	}
	if option == "--key" {
		add("--tpm-serial-num", c.serial)
	}
	return args
}

// makeArgs says in the tool's options what a TPM is.
func makeArgs(p *tpm.Profile) []string {
	var info struct {
		Spec struct {
			Family          string
			Level, Revision json.Number
		} `json:"TPMSpecification"`
		Made struct{ Manufacturer, Model, Version string } `json:"TPMAttributes"`
	}
	if err := json.Unmarshal(swtpm.Info(swtpm.InfoSpecification|swtpm.InfoAttributes, p), &info); err != nil {
		panic(err) // this program wrote it
	}
	return []string{
		"--tpm-spec-family", info.Spec.Family, "--tpm-spec-level", info.Spec.Level.String(),
		"--tpm-spec-revision", info.Spec.Revision.String(), "--tpm-manufacturer", info.Made.Manufacturer,
		"--tpm-model", info.Made.Model, "--tpm-version", info.Made.Version,
	}
}

// tpmSerial is the TPM's serial number in certificates of the device's identity:
// manufacturer, and key and number of the EK certificate (TPM 2.0 Keys for Device
// Identity and Attestation, 8.1).
func (c *certifier) tpmSerial(der []byte) (string, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return "", fmt.Errorf("the EK certificate cannot be read: %w", err)
	}
	if len(cert.AuthorityKeyId) == 0 {
		return "", errors.New("the EK certificate does not name the key of its issuer")
	}
	maker, err := c.tpm.manufacturer()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s:%x:%x", maker, cert.AuthorityKeyId[:min(32, len(cert.AuthorityKeyId))], cert.SerialNumber.Bytes()), nil
}

// call runs a program, or what of this one it is a name of.
func (c *certifier) call(program string, args []string) error {
	path, err := exec.LookPath(program)
	if err != nil {
		return fmt.Errorf("could not find %s in PATH: %w", program, err)
	}
	name := filepath.Base(path)
	c.log.printf("  Invoking %s %s\n", path, strings.Join(args, " "))
	var out, errs bytes.Buffer
	if run, ok := tools()[name]; ok && isSelf(path) {
		err = run(args, &out, &errs)
	} else {
		cmd := exec.Command(path, args...)
		cmd.Stdout, cmd.Stderr = &out, &errs
		err = cmd.Run()
	}
	if err != nil {
		return fmt.Errorf("%s failed: %w: %s", name, err, strings.TrimSpace(errs.String()))
	}
	for line := range strings.Lines(out.String()) {
		if line = strings.TrimSpace(line); line != "" {
			c.log.printf("%s: %s\n", name, line)
		}
	}
	return nil
}

// isSelf reports whether a path leads to this program.
func isSelf(path string) bool {
	self, err := os.Executable()
	if err != nil {
		return false
	}
	a, err1 := os.Stat(path)
	b, err2 := os.Stat(self)
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}

// stagedFile is a file that gets its name when the TPM is there.
type stagedFile struct{ temporary, path string }

// stageFile writes a file for the user.
func (s *setupRun) stageFile(name string, b []byte) error {
	f, err := os.CreateTemp(s.certFiles, "."+name+".")
	if err != nil {
		return err
	}
	s.files = append(s.files, stagedFile{f.Name(), filepath.Join(s.certFiles, name)})
	_, err = f.Write(b)
	return errors.Join(err, f.Chmod(0o640), f.Sync(), f.Close())
}

// publishFiles gives the files their names.
func (s *setupRun) publishFiles() (err error) {
	for _, f := range s.files {
		err = errors.Join(err, os.Rename(f.temporary, f.path))
	}
	return err
}

// discardFiles removes what did not get its name.
func (s *setupRun) discardFiles() {
	for _, f := range s.files {
		_ = os.Remove(f.temporary)
	}
}
