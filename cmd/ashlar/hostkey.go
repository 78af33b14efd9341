package main

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"

	"github.com/ashlar-cloud/ashlar/swtpm"
)

// domainPlace stands for a domain's UUID in --key.
const domainPlace = "{uuid}"

// readCommonKey reads a key that is the same for all. Of keys that are not, it sees that
// the option is one.
func (s *hostSet) readCommonKey() error {
	if s.option == "" {
		return nil
	}
	key, err := swtpm.ReadKey(s.option)
	switch {
	case !strings.Contains(s.option, domainPlace):
		s.key = key
		return err
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	key.Wipe()
	return err
}

// keyOf gives the key of a TPM, nil where none is known, which the caller wipes unless
// it is the one for all; own says that it is this TPM's and no other's.
func (s *hostSet) keyOf(x *hostTPM) (key *swtpm.Key, own bool, err error) {
	if s.libvirt && x.Domain != "" {
		if key, err = s.askLibvirt(x); key != nil || err != nil {
			return key, true, err
		}
	}
	if s.option == "" || s.key != nil {
		return s.key, false, nil
	}
	if x.Domain == "" {
		return nil, false, nil
	}
	key, err = swtpm.ReadKey(strings.ReplaceAll(s.option, domainPlace, x.Domain))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	return key, true, err
}

func findVirsh() (string, error) {
	path, err := exec.LookPath("virsh")
	if err != nil {
		return "", errors.New("--libvirt asks virsh, which is not here: install the package libvirt-clients")
	}
	return path, nil
}

// libvirtDomain is what is asked of a domain's XML.
type libvirtDomain struct {
	Name string `xml:"name"`
	TPMs []struct {
		Encryption struct {
			Secret string `xml:"secret,attr"`
		} `xml:"backend>encryption"`
	} `xml:"devices>tpm"`
}

// managedSave is what virsh dominfo says of a machine that is saved.
var managedSave = regexp.MustCompile(`(?m)^Managed save: +yes`)

// askLibvirt learns a domain's name, and the key of its TPM where that is encrypted. A
// domain that libvirt does not know, it has no more, which is noted.
func (s *hostSet) askLibvirt(x *hostTPM) (*swtpm.Key, error) {
	text, err := s.ask("dumpxml", x.Domain)
	if err != nil {
		x.Notes = append(x.Notes, "libvirt does not know the domain: "+err.Error())
		return nil, nil
	}
	var d libvirtDomain
	if err := xml.Unmarshal(text, &d); err != nil {
		return nil, fmt.Errorf("what libvirt says of the domain %s cannot be read: %w", x.Domain, err)
	}
	x.Name = d.Name
	if s.back {
		info, err := s.ask("dominfo", x.Domain)
		if err != nil {
			return nil, err
		}
		if managedSave.Match(info) {
			return nil, errors.New("the machine is saved, with a running TPM that cannot go back: start it and shut it down first")
		}
	}
	for _, t := range d.TPMs {
		if t.Encryption.Secret == "" {
			continue
		}
		value, err := s.ask("secret-get-value", t.Encryption.Secret)
		if err != nil {
			return nil, fmt.Errorf("libvirt does not give the secret %s of the domain's TPM: %w", t.Encryption.Secret, err)
		}
		defer clear(value)
		return secretKey(value)
	}
	return nil, nil
}

// ask runs one command of virsh; the error is what it complains of.
func (s *hostSet) ask(args ...string) ([]byte, error) {
	cmd := exec.Command(s.virsh, append([]string{"--quiet"}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if text := strings.TrimSpace(complaint.String()); err != nil && text != "" {
		err = errors.New(text)
	}
	return out, err
}

// secretKey is the key that libvirt gives swtpm of a secret, which virsh shows as base64:
// a passphrase, for states of 256 bits.
func secretKey(shown []byte) (*swtpm.Key, error) {
	secret := make([]byte, base64.StdEncoding.DecodedLen(len(shown)))
	defer clear(secret)
	n, err := base64.StdEncoding.Decode(secret, bytes.TrimSpace(shown))
	if err != nil {
		return nil, fmt.Errorf("what libvirt gives as the secret cannot be read: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	fd, err := syscall.Dup(int(r.Fd())) // ReadKey closes what it reads
	r.Close()
	if err != nil {
		w.Close()
		return nil, err
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		_, _ = w.Write(secret[:n])
		w.Close()
	}()
	key, err := swtpm.ReadKey(fmt.Sprintf("pwdfd=%d,mode=aes-256-cbc", fd))
	<-written
	return key, err
}
