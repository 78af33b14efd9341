package main

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ashlar-cloud/ashlar/identity"
)

// certOptions are those of swtpm_cert.
type certOptions struct {
	pubkey, modulus, eccX, eccY, curve string
	exponent                           uint32

	signkey, password, issuercert, outCert, subject string

	pin         string   // of a token
	environment []string // for a token's module

	request identity.CertificateRequest
	days    int

	tpmMaker, tpmModel, tpmVersion *string
	platMaker, platModel, platVer  *string
	family                         *string
	level, revision                *uint32

	tpm2, pem, header bool
	about             about
}

var errTPMKey = errors.New("signing keys of a TPM 1.2 (tpmkey:) are not supported: give a PEM file or a pkcs11: URI")

// noExpiry is --days for a certificate without an end.
const noExpiry = -1

// certificate is swtpm_cert: a certificate of a key that need not sign for it.
func certificate(args []string, out, _ io.Writer) error {
	o, err := parseCert(args)
	if err != nil {
		return err
	}
	if o.about.answer("swtpm_cert", out) {
		return nil
	}
	return o.certify(out)
}

func parseCert(args []string) (*certOptions, error) {
	o := &certOptions{exponent: 0x10001, days: 365, pin: os.Getenv(pinVariable)}
	o.request.Serial = big.NewInt(1)
	o.about = about{usage: certUsage, title: "TPM certificate tool",
		features: []string{"cmdarg-signkey-pwd", "cmdarg-tpm-serial-num", "supports-iak-idevid"}}
	_, err := getopt(args, o.table(), true)
	return o, err
}

// table is swtpm_cert's options.
func (o *certOptions) table() []option {
	given := func(name string, into **string) option {
		return option{name: name, text: func(s string) error { *into = &s; return nil }}
	}
	unused := func(string) error { return nil } // for keys of a TPM 1.2, which --signkey refuses
	return append(o.about.options(),
		textOption("pubkey", &o.pubkey),
		textOption("modulus", &o.modulus),
		textOption("ecc-x", &o.eccX),
		textOption("ecc-y", &o.eccY),
		textOption("ecc-curveid", &o.curve),
		option{name: "exponent", text: func(s string) error { return number32(s, &o.exponent) }},
		textOption("signkey", &o.signkey),
		textOption("signkey-password", &o.password),
		option{name: "signkey-pwd", text: func(s string) (err error) { o.password, err = readPassword(s); return err }},
		option{name: "parentkey-password", text: unused},
		option{name: "parentkey-pwd", text: unused},
		textOption("issuercert", &o.issuercert),
		textOption("out-cert", &o.outCert),
		textOption("subject", &o.subject),
		option{name: "days", text: o.setDays},
		option{name: "serial", text: o.setSerial},
		option{name: "type", text: o.setKind},
		given("tpm-manufacturer", &o.tpmMaker),
		given("tpm-model", &o.tpmModel),
		given("tpm-version", &o.tpmVersion),
		textOption("tpm-serial-num", &o.request.TPMSerial),
		given("platform-manufacturer", &o.platMaker),
		given("platform-model", &o.platModel),
		given("platform-version", &o.platVer),
		given("tpm-spec-family", &o.family),
		option{name: "tpm-spec-level", text: func(s string) error { o.level = new(uint32); return number32(s, o.level) }},
		option{name: "tpm-spec-revision", text: func(s string) error { o.revision = new(uint32); return number32(s, o.revision) }},
		flagOption("pem", &o.pem),
		flagOption("add-header", &o.header),
		flagOption("tpm2", &o.tpm2),
		flagOption("allow-signing", &o.request.Sign),
		flagOption("decryption", &o.request.Decrypt),
	)
}

// number32 reads a number of 32 bits as strtol does: decimal, or 0x and
// hexadecimal, or 0 and octal.
func number32(s string, into *uint32) error {
	n, err := strconv.ParseUint(s, 0, 32)
	if err != nil {
		return fmt.Errorf("'%s' is not a number of 32 bits", s)
	}
	*into = uint32(n)
	return nil
}

func (o *certOptions) setDays(s string) error {
	n, err := strconv.ParseInt(s, 0, 32)
	if err != nil || n < noExpiry {
		return fmt.Errorf("'%s' is not a number of days, nor -1 for a certificate that does not expire", s)
	}
	o.days = int(n)
	return nil
}

func (o *certOptions) setSerial(s string) error {
	n, ok := new(big.Int).SetString(s, 10)
	if !ok || n.Sign() < 0 {
		return fmt.Errorf("'%.60s' is not a decimal serial number", s)
	}
	o.request.Serial = n
	return nil
}

func (o *certOptions) setKind(s string) error {
	switch strings.ToLower(s) {
	case "ek":
		o.request.Kind = identity.EKCertificate
	case "platform":
		o.request.Kind = identity.PlatformCertificate
	case "iak":
		o.request.Kind = identity.IAKCertificate
	case "idevid":
		o.request.Kind = identity.IDevIDCertificate
	default:
		return fmt.Errorf("'%s' is none of ek, platform, iak, idevid", s)
	}
	return nil
}

// check refuses what is missing before any file is read.
func (o *certOptions) check() error {
	switch kind := o.request.Kind; {
	case !o.tpm2:
		return errors.New("there is no TPM 1.2 in this version, nor a certificate for one: add --tpm2")
	case o.issuercert == "":
		return errors.New("--issuercert is missing")
	case o.signkey == "":
		return errors.New("--signkey is missing")
	case kind == identity.IAKCertificate || kind == identity.IDevIDCertificate:
		if o.request.TPMSerial == "" {
			return errors.New("--tpm-serial-num is missing")
		}
	case o.tpmMaker == nil || o.tpmModel == nil || o.tpmVersion == nil:
		return errors.New("--tpm-manufacturer, --tpm-model and --tpm-version must all be given")
	case kind == identity.PlatformCertificate:
		if o.platMaker == nil || o.platModel == nil || o.platVer == nil {
			return errors.New("--platform-manufacturer, --platform-model and --platform-version must all be given")
		}
	case o.family == nil || o.level == nil || o.revision == nil:
		return errors.New("--tpm-spec-family, --tpm-spec-level and --tpm-spec-revision must all be given")
	}
	return nil
}

// fill completes the request from the options.
func (o *certOptions) fill(now time.Time) (err error) {
	r := &o.request
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	r.TPM = identity.TPMInfo{Manufacturer: text(o.tpmMaker), Model: text(o.tpmModel), Version: text(o.tpmVersion)}
	r.Platform = identity.PlatformInfo{Manufacturer: text(o.platMaker), Model: text(o.platModel), Version: text(o.platVer)}
	if o.family != nil && o.level != nil && o.revision != nil {
		r.Spec = identity.SpecInfo{Family: *o.family, Level: *o.level, Revision: *o.revision}
	}
	r.NotBefore, r.NotAfter = now, identity.NoExpiry()
	if o.days >= 0 {
		if r.NotAfter = now.AddDate(0, 0, o.days); r.NotAfter.After(identity.NoExpiry()) {
			return fmt.Errorf("--days %d: the certificate would end after the year 9999", o.days)
		}
	}
	if r.Subject, err = identity.ParseName(o.subject); err != nil {
		return fmt.Errorf("--subject: %w", err)
	}
	r.Key, err = o.publicKey()
	return err
}

// certify makes the certificate and writes it.
func (o *certOptions) certify(out io.Writer) error {
	if err := o.check(); err != nil {
		return err
	}
	if err := o.fill(time.Now().UTC().Truncate(time.Second)); err != nil {
		return err
	}
	issuer, err := readIssuer(o.issuercert)
	if err != nil {
		return err
	}
	signer, err := o.openSigner(issuer)
	if err != nil {
		return err
	}
	der, err := identity.IssueCertificate(rand.Reader, &o.request, issuer, signer)
	if err != nil {
		return err
	}
	if o.pem {
		der = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	if o.header {
		if der, err = identity.StoredCertificate(der); err != nil {
			return err
		}
	}
	if o.outCert == "" {
		_, err = out.Write(der)
		return err
	}
	return writeCertificate(o.outCert, der)
}

// readIssuer reads the first certificate of a PEM file.
func readIssuer(path string) (*x509.Certificate, error) {
	b, err := readLimited(path, identity.MaxCertificate*identity.MaxCertificates)
	if err != nil {
		return nil, err
	}
	list, err := identity.ParseCertificates(b)
	if err != nil {
		return nil, fmt.Errorf("issuer certificate %s: %w", path, err)
	}
	return list[0], nil
}

// openSigner is the key of --signkey: of a PEM file or a PKCS #11 token.
func (o *certOptions) openSigner(issuer *x509.Certificate) (crypto.Signer, error) {
	name := o.signkey
	if strings.HasPrefix(name, "tpmkey:") {
		return nil, errTPMKey
	}
	if strings.HasPrefix(name, "pkcs11:") {
		return openToken(name, o.pin, issuer.PublicKey, o.environment)
	}
	b, err := readLimited(name, identity.MaxPrivateKey)
	if err != nil {
		return nil, err
	}
	defer clear(b)
	key, err := identity.ParsePrivateKey(b, o.password)
	if err != nil {
		return nil, fmt.Errorf("signing key %s: %w", name, err)
	}
	return key, nil
}

// writeCertificate leaves a whole certificate or none. It follows no symbolic
// link, since it may write where another user does.
func writeCertificate(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		_ = os.Remove(path)
	}
	return err
}

// readLimited reads a file of at most so many bytes.
func readLimited(path string, most int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	if err != nil {
		return nil, err
	}
	if len(b) > most {
		return nil, fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return b, nil
}
