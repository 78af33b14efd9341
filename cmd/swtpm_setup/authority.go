package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/ashlar-cloud/ashlar/identity"
)

// localCA is the CA of this host, as swtpm-localca.conf describes it.
type localCA struct {
	stateDir, signingKey, issuerCert, certSerial string

	password    string   // of the signing key
	pin         string   // of the PKCS #11 token, where the key is on one
	environment []string // for the token's module
}

// Files of the CA that the configuration does not name.
const (
	lockFile    = ".lock.swtpm-localca"
	rootKeyFile = "swtpm-localca-rootca-privkey.pem"
	rootFile    = "swtpm-localca-rootca-cert.pem"
	defaultPIN  = "swtpm-tpmca"
)

// keyBits is the size of the RSA keys of a new CA.
const keyBits = 3072

func readLocalCA(path string) (*localCA, error) {
	conf, err := readConfig(path)
	if err != nil {
		return nil, err
	}
	ca := &localCA{}
	for _, v := range []struct {
		name string
		into *string
	}{{"statedir", &ca.stateDir}, {"signingkey", &ca.signingKey}, {"issuercert", &ca.issuerCert}} {
		if *v.into, _ = conf.value(v.name); *v.into == "" {
			return nil, fmt.Errorf("missing '%s' config value in config file %s", v.name, path)
		}
	}
	ca.password, _ = conf.value("signingkey_password")
	if ca.certSerial, _ = conf.value("certserial"); ca.certSerial == "" {
		ca.certSerial = filepath.Join(ca.stateDir, "certserial")
	}
	if strings.HasPrefix(ca.signingKey, "tpmkey:") {
		return nil, errTPMKey
	}
	if !ca.onToken() {
		return ca, nil
	}
	ca.signingKey = strings.ReplaceAll(ca.signingKey, `\;`, ";") // was once needed there
	ca.environment = conf.environment()
	if ca.pin = ca.password; ca.pin == "" {
		ca.pin, _ = conf.value(pinVariable)
	}
	if ca.pin == "" {
		ca.pin = defaultPIN
	}
	return ca, nil
}

// onToken tells whether the signing key is not a file's.
func (ca *localCA) onToken() bool { return strings.HasPrefix(ca.signingKey, "pkcs11:") }

// prepare makes the directories, and the CA if its key or its certificate is
// missing. Of several processes one makes it and the others wait.
func (ca *localCA) prepare(log *toolLog) error {
	dirs := []string{ca.stateDir, filepath.Dir(ca.issuerCert), filepath.Dir(ca.certSerial)}
	if !ca.onToken() {
		dirs = append(dirs, filepath.Dir(ca.signingKey))
	}
	for _, dir := range dirs {
		if _, err := os.Stat(dir); err == nil {
			continue
		}
		log.printf("Creating swtpm-localca dir '%s'.\n", dir)
		if err := os.MkdirAll(dir, 0o770); err != nil {
			return err
		}
	}
	if ca.onToken() {
		log.printf("CA uses a PKCS#11 key; using %s\n", pinVariable)
		return nil
	}
	if there, err := ca.exists(); there || err != nil {
		return err
	}
	unlock, err := ca.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if there, err := ca.exists(); there || err != nil {
		return err
	}
	log.printf("Creating root CA and a local CA's signing key and issuer cert.\n")
	return ca.create(time.Now().UTC().Truncate(time.Second))
}

func (ca *localCA) exists() (bool, error) {
	for _, path := range []string{ca.signingKey, ca.issuerCert} {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return false, nil
		} else if err != nil {
			return false, err
		}
	}
	return true, nil
}

// openOwn opens a file of the CA, or makes it, and follows no symbolic link: its
// directory may be that of a user with fewer rights than the present one.
func openOwn(path string, mode fs.FileMode) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, mode)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("%s is not a file", path)
	}
	return f, nil
}

// lock waits for the lock of the CA.
func (ca *localCA) lock() (unlock func(), err error) {
	path := filepath.Join(ca.stateDir, lockFile)
	f, err := openOwn(path, 0o775)
	if err != nil {
		return nil, err
	}
	for {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX); !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s cannot be locked: %w", path, err)
	}
	return func() { f.Close() }, nil
}

// create makes a root CA, and below it the CA that signs. The certificate of
// the latter comes last, and an old one goes first, so that key and certificate
// fit each other wherever this is cut off.
func (ca *localCA) create(now time.Time) error {
	if err := os.Remove(ca.issuerCert); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	rootKey, key, err := generateKeys()
	if err != nil {
		return err
	}
	rootDER, err := identity.NewAuthority(rand.Reader, "swtpm-localca-rootca", rootKey, nil, nil, now)
	if err != nil {
		return err
	}
	root, err := x509.ParseCertificate(rootDER)
	if err != nil {
		return err
	}
	der, err := identity.NewAuthority(rand.Reader, "swtpm-localca", key, root, rootKey, now)
	if err != nil {
		return err
	}
	dir := filepath.Dir(ca.signingKey)
	if err := writeKey(filepath.Join(dir, rootKeyFile), rootKey, os.Getenv("SWTPM_ROOTCA_PASSWORD")); err != nil {
		return err
	}
	if err := replaceFile(filepath.Join(dir, rootFile), pemCertificate(rootDER), 0o644); err != nil {
		return err
	}
	if err := writeKey(ca.signingKey, key, ca.password); err != nil {
		return err
	}
	return replaceFile(ca.issuerCert, pemCertificate(der), 0o644)
}

func generateKeys() (first, second *rsa.PrivateKey, err error) {
	var other error
	done := make(chan struct{})
	go func() {
		defer close(done)
		second, other = rsa.GenerateKey(rand.Reader, keyBits)
	}()
	first, err = rsa.GenerateKey(rand.Reader, keyBits)
	<-done
	return first, second, errors.Join(err, other)
}

func pemCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func writeKey(path string, key *rsa.PrivateKey, password string) error {
	b, err := identity.MarshalPrivateKey(rand.Reader, key, password)
	if err != nil {
		return err
	}
	defer clear(b)
	return replaceFile(path, b, 0o640)
}

// replaceFile puts a whole file, on the disk, in the place of another. As with
// swtpm_localca, its mode does not depend on the umask.
func replaceFile(path string, b []byte, mode fs.FileMode) error {
	temp := path + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	for _, step := range []func() error{func() error { return f.Chmod(mode) }, f.Sync, f.Close} {
		if e := step(); err == nil {
			err = e
		}
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		_ = os.Remove(temp)
		return err
	}
	return syncDir(path)
}

// syncDir brings the name of a file to the disk.
func syncDir(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// Limits on serial numbers.
const (
	serialDigits    = 19       // of a CA's first one, drawn at random; older swtpm_certs take no more than 2^63
	maxSerialDigits = 49       // of the longest in 20 bytes
	maxSerialBits   = 20*8 - 1 // RFC 5280, 4.1.2.2
)

// nextSerial is the number after the one in the file of serial numbers, which
// then has it. Where there is none, or it is too long, they begin anew.
func (ca *localCA) nextSerial() (string, error) {
	unlock, err := ca.lock()
	if err != nil {
		return "", err
	}
	defer unlock()
	f, err := openOwn(ca.certSerial, 0o664)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSerialDigits+2))
	if err != nil {
		return "", err
	}
	serial, err := serialAfter(bytes.TrimSpace(text))
	if err == nil {
		// In place: the file's owner and mode are the administrator's. If this
		// is cut off, the numbers begin anew.
		_, err = f.WriteAt([]byte(serial), 0)
	}
	if err == nil {
		err = f.Truncate(int64(len(serial)))
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil && len(text) == 0 { // it is new
		err = syncDir(ca.certSerial)
	}
	return serial, err
}

func serialAfter(text []byte) (string, error) {
	n, ok := new(big.Int).SetString(string(text), 10)
	if ok && n.Sign() >= 0 && len(text) <= maxSerialDigits {
		if n.Add(n, big.NewInt(1)); n.BitLen() <= maxSerialBits {
			return n.String(), nil
		}
	}
	least := new(big.Int).Exp(big.NewInt(10), big.NewInt(serialDigits-1), nil)
	n, err := rand.Int(rand.Reader, new(big.Int).Mul(least, big.NewInt(8)))
	if err != nil {
		return "", err
	}
	return n.Add(n, least).String(), nil
}
