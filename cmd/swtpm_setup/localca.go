package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// localcaOptions are those of swtpm_localca.
type localcaOptions struct {
	kind, key, dir, vmid          string
	optsfile, configfile, logfile string
	spec, attributes              []string // handed on to swtpm_cert
	tpmSerial                     string
	tpm2, signing, decryption     bool
	about                         about
}

// localca is swtpm_localca: certificates by the CA of this host, which is made
// when it is first needed.
func localca(args []string, out, errs io.Writer) error {
	o := localcaOptions{dir: ".", about: about{usage: localcaUsage, title: "TPM local CA tool",
		features: []string{"cmdarg-tpm-serial-num", "supports-iak-idevid"}}}
	if _, err := getopt(args, o.table(), false); err != nil {
		return err
	}
	if o.about.answer("swtpm_localca", out) {
		return nil
	}
	log, err := openLog(o.logfile, out)
	if err != nil {
		return err
	}
	return log.failed("swtpm_localca", o.run(log))
}

func (o *localcaOptions) table() []option {
	pass := func(name string, into *[]string) option {
		return option{name: name, text: func(s string) error { *into = append(*into, "--"+name, s); return nil }}
	}
	asks := o.about.options()
	asks[0].short = "h"
	return append(asks,
		textOption("type", &o.kind),
		textOption("ek", &o.key),
		textOption("key", &o.key),
		textOption("dir", &o.dir),
		textOption("vmid", &o.vmid),
		textOption("optsfile", &o.optsfile),
		textOption("configfile", &o.configfile),
		textOption("logfile", &o.logfile),
		pass("tpm-spec-family", &o.spec),
		pass("tpm-spec-revision", &o.spec),
		pass("tpm-spec-level", &o.spec),
		pass("tpm-manufacturer", &o.attributes),
		pass("tpm-model", &o.attributes),
		pass("tpm-version", &o.attributes),
		textOption("tpm-serial-num", &o.tpmSerial),
		flagOption("tpm2", &o.tpm2),
		flagOption("allow-signing", &o.signing),
		flagOption("decryption", &o.decryption),
	)
}

func (o *localcaOptions) run(log *toolLog) error {
	switch {
	case !o.tpm2:
		return errors.New("there is no TPM 1.2 in this version, nor a certificate for one: add --tpm2")
	case !slices.Contains([]string{"ek", "platform", "iak", "idevid"}, o.kind):
		return fmt.Errorf("--type '%s' is none of ek, platform, iak, idevid", o.kind)
	case o.key == "":
		return errors.New("--ek is missing: the key to be certified")
	}
	optsfile, err := userFile(o.optsfile, "swtpm-localca.options")
	if err != nil {
		return err
	}
	configfile, err := userFile(o.configfile, "swtpm-localca.conf")
	if err != nil {
		return err
	}
	defaults, err := readConfigText(optsfile)
	if err != nil {
		return err
	}
	ca, err := readLocalCA(configfile)
	if err != nil {
		return err
	}
	if err := ca.prepare(log); err != nil {
		return err
	}
	serial, err := ca.nextSerial()
	if err != nil {
		return err
	}
	what := o.kind
	if what == "ek" {
		what = "EK"
	}
	c, err := parseCert(o.certArgs(ca, splitOptions(string(defaults)), serial))
	if err == nil {
		c.password, c.pin, c.environment = ca.password, ca.pin, ca.environment
		err = c.certify(io.Discard)
	}
	if err != nil {
		return fmt.Errorf("could not create %s certificate locally: %w", what, err)
	}
	log.printf("Successfully created %s certificate locally.\n", what)
	return nil
}

// certArgs is the command line of swtpm_cert. What the options file says comes
// first, so that it is a default only.
func (o *localcaOptions) certArgs(ca *localCA, defaults []string, serial string) []string {
	subject := "CN"
	if o.kind == "iak" || o.kind == "idevid" {
		subject = "serialNumber"
	}
	args := append([]string{"--subject", subject + "=" + subjectOf(o.vmid)}, defaults...)
	if o.tpmSerial != "" {
		args = append(args, "--tpm-serial-num", o.tpmSerial)
	}
	args = append(args, "--tpm2")
	if o.kind == "ek" {
		if o.signing {
			args = append(args, "--allow-signing")
		}
		if o.decryption {
			args = append(args, "--decryption")
		}
		args = append(args, o.spec...)
	}
	args = append(args, o.attributes...)
	args = append(args, keyArgs(o.key)...)
	return append(args, "--type", o.kind, "--out-cert", filepath.Join(o.dir, o.kind+".cert"),
		"--signkey", ca.signingKey, "--issuercert", ca.issuerCert, "--days", "-1", "--serial", serial)
}

// subjectOf is a machine's name as a value in a subject: what would end the
// value there is an underscore. swtpm_localca leaves a plus sign that has a
// backslash before it, so that comes out as a plus sign.
func subjectOf(vmid string) string {
	if vmid == "" {
		return "unknown"
	}
	var b strings.Builder
	for i := 0; i < len(vmid); i++ {
		switch c := vmid[i]; {
		case c == '+' || c == ',':
			b.WriteByte('_')
		case c == '\\' && strings.HasPrefix(vmid[i+1:], "+"):
			b.WriteString(`\+`)
			i++
		case c == '\\':
			b.WriteString(`\\`)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

var eccParams = regexp.MustCompile("x=([0-9A-Fa-f]+),y=([0-9A-Fa-f]+)(?:,id=([^,]+))?")

// keyArgs says --ek in swtpm_cert's options: x=HEX,y=HEX[,id=CURVE] is a point,
// anything else a modulus.
func keyArgs(key string) []string {
	m := eccParams.FindStringSubmatch(key)
	switch {
	case m == nil:
		return []string{"--modulus", key}
	case m[3] == "":
		return []string{"--ecc-x", m[1], "--ecc-y", m[2]}
	}
	return []string{"--ecc-x", m[1], "--ecc-y", m[2], "--ecc-curveid", m[3]}
}

// splitOptions takes an options file apart at its lines and spaces.
func splitOptions(text string) []string {
	var list []string
	for line := range strings.Lines(text) {
		for _, word := range strings.Split(line, " ") {
			if word = strings.TrimRight(word, " \t\r\n\v\f"); word != "" {
				list = append(list, word)
			}
		}
	}
	return list
}

// userFile is a file's path: as given, else the user's own, else the system's.
func userFile(given, name string) (string, error) {
	if given != "" {
		return given, nil
	}
	if dir, err := os.UserConfigDir(); err == nil {
		own := filepath.Join(dir, name)
		if f, err := os.Open(own); err == nil {
			return own, f.Close()
		}
	}
	return filepath.Join("/etc", name), nil
}
