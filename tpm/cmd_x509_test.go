package tpm

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// extension is one with the value of a BIT STRING.
func extension(oid []byte, unused byte, bits ...byte) []byte {
	return der(derSequence, oid, []byte{1, 1, 0xFF}, der(derOctetString, der(derBitString, []byte{unused}, bits)))
}

func keyUsage(bits uint32) []byte {
	return extension(oidKeyUsage, 7, byte(bits>>24), byte(bits>>16))
}

// certificateParts are a name, a validity and a name.
func certificateParts() [][]byte {
	name := func(cn string) []byte {
		return der(derSequence, der(0x31, der(derSequence, []byte("\x06\x03\x55\x04\x03"), der(0x0C, []byte(cn)))))
	}
	time := func(s string) []byte { return der(0x17, []byte(s)) }
	return [][]byte{name("issuer"), der(derSequence, time("260101000000Z"), time("360101000000Z")), name("subject")}
}

// partial is a partial certificate with extensions, and with what comes before
// the names.
func partial(before []byte, extensions ...[]byte) []byte {
	parts := append([][]byte{before}, certificateParts()...)
	return der(derSequence, append(parts, der(derExtensions, der(derSequence, extensions...)))...)
}

func certifyX509Cmd(key, signer tpm2.Handle, scheme, cert []byte) []byte {
	return frame(tpm2.CCCertifyX509, []tpm2.Handle{key, signer}, append(password(""), password("")...),
		buf16(nil), scheme, buf16(cert))
}

// certified decodes an answer of CertifyX509.
func certified(t *testing.T, resp []byte) (out certifyX509Out) {
	t.Helper()
	decode(t, params(t, resp[headerSize:]), &out.added, &out.tbsDigest, &out.signature)
	return out
}

// sameX509 runs the command on both. What is added and signed must be the same,
// as both have the same keys.
func (p *pair) sameX509(what string, cmd []byte) (out certifyX509Out, ok bool) {
	p.t.Helper()
	got, want := p.execute(cmd), p.o.execute(cmd)
	if code(got) != code(want) {
		p.t.Errorf("%s: ours %v, swtpm %v: %x", what, code(got), code(want), cmd)
		return out, false
	}
	if code(got) != tpm2.RCSuccess {
		return out, false
	}
	out = certified(p.t, got)
	theirs := certified(p.t, want)
	if !bytes.Equal(out.added, theirs.added) || !bytes.Equal(out.tbsDigest, theirs.tbsDigest) {
		p.t.Errorf("%s: the certificates differ:\n ours  %x %x\n swtpm %x %x", what, out.added, out.tbsDigest, theirs.added, theirs.tbsDigest)
	}
	return out, true
}

// assemble makes the certificate of a partial one and of what the TPM added.
func assemble(t *testing.T, partial []byte, out *certifyX509Out) []byte {
	t.Helper()
	elements := func(b []byte) (list []asn1.RawValue) {
		var all asn1.RawValue
		if _, err := asn1.Unmarshal(b, &all); err != nil {
			t.Fatal(err)
		}
		for rest := all.Bytes; len(rest) > 0; {
			var e asn1.RawValue
			var err error
			if rest, err = asn1.Unmarshal(rest, &e); err != nil {
				t.Fatal(err)
			}
			list = append(list, e)
		}
		return list
	}
	added, given := elements(out.added), elements(partial)
	var tbs []byte
	var algorithm []byte
	if len(given) == 5 {
		algorithm, given = given[0].FullBytes, given[1:]
	} else {
		algorithm = added[2].FullBytes
	}
	for _, e := range [][]byte{added[0].FullBytes, added[1].FullBytes, algorithm, given[0].FullBytes, given[1].FullBytes,
		given[2].FullBytes, added[len(added)-1].FullBytes, given[3].FullBytes} {
		tbs = append(tbs, e...)
	}
	sig := out.signature.RSA
	if out.signature.Alg == tpm2.AlgECDSA {
		sig = der(derSequence, derUnsigned(out.signature.R), derUnsigned(out.signature.S))
	}
	return der(derSequence, der(derSequence, tbs), algorithm, der(derBitString, []byte{0}, sig))
}

// TestCertifyX509 compares certificates with swtpm's, and has Go's and OpenSSL's
// libraries read and verify them.
func TestCertifyX509(t *testing.T) {
	p := newTwins(t)
	null := schemeOf(tpm2.AlgNull)
	x509Attrs := signingKey | tpm2.ObjFixedTPM | tpm2.ObjFixedParent
	rsaSigner, eccSigner := rsaKey(x509Attrs, null), eccKey(x509Attrs, null, tpm2.CurveP384)
	dir := t.TempDir()
	for _, signer := range []tpm2.Public{rsaSigner, eccSigner} {
		p.expect(tpm2.RCSuccess, "signer", createPrimaryCmd(tpm2.RHOwner, &signer, ""))
		for i, scheme := range [][]tpm2.AlgID{{tpm2.AlgRSASSA, tpm2.AlgSHA1}, {tpm2.AlgRSASSA, tpm2.AlgSHA256}, {tpm2.AlgRSASSA, tpm2.AlgSHA384},
			{tpm2.AlgRSASSA, tpm2.AlgSHA512}, {tpm2.AlgRSAPSS, tpm2.AlgSHA1}, {tpm2.AlgRSAPSS, tpm2.AlgSHA256}, {tpm2.AlgRSAPSS, tpm2.AlgSHA512},
			{tpm2.AlgECDSA, tpm2.AlgSHA1}, {tpm2.AlgECDSA, tpm2.AlgSHA256}, {tpm2.AlgECDSA, tpm2.AlgSHA384}, {tpm2.AlgECDSA, tpm2.AlgSHA512}} {
			what := fmt.Sprintf("%v by %v with %v", signer.Type, scheme[0], scheme[1])
			given := partial(nil, keyUsage(usageDigitalSignature|usageCRLSign|usageKeyCertSign))
			out, ok := p.sameX509(what, certifyX509Cmd(tpm2.TransientFirst, tpm2.TransientFirst, append(u16(uint16(scheme[0])), u16(uint16(scheme[1]))...), given))
			if !ok || scheme[1] == tpm2.AlgSHA1 {
				continue // those of the other type; nobody takes SHA-1 any more
			}
			raw := assemble(t, given, &out)
			cert, err := x509.ParseCertificate(raw)
			if err != nil {
				t.Errorf("%s: %v: %x", what, err, raw)
				continue
			}
			if err := cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if cert.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageCRLSign|x509.KeyUsageCertSign || cert.Version != 3 {
				t.Errorf("%s: version %d, key usage %b", what, cert.Version, cert.KeyUsage)
			}
			verifyWithOpenSSL(t, filepath.Join(dir, fmt.Sprint(i)), raw)
		}
		p.expect(tpm2.RCSuccess, "flush", flushCmd(tpm2.TransientFirst))
	}
}

// verifyWithOpenSSL has OpenSSL verify a certificate by its own key.
func verifyWithOpenSSL(t *testing.T, path string, raw []byte) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("there is no openssl to verify with: install the package openssl")
	}
	if err := os.WriteFile(path+".der", raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("openssl", "x509", "-in", path+".der", "-inform", "DER", "-out", path+".pem").CombinedOutput(); err != nil {
		t.Errorf("openssl cannot read it: %s", out)
		return
	}
	// The names of issuer and subject differ: the signature alone is checked.
	out, err := exec.Command("openssl", "verify", "-partial_chain", "-check_ss_sig", "-trusted", path+".pem", path+".pem").CombinedOutput()
	if err != nil {
		t.Errorf("openssl does not verify it: %s", out)
	}
}

// TestCertifyX509Uses tries every use of a key with every kind of key.
func TestCertifyX509Uses(t *testing.T) {
	p := newTwins(t)
	null := schemeOf(tpm2.AlgNull)
	ecdsa := append(u16(uint16(tpm2.AlgECDSA)), u16(uint16(tpm2.AlgSHA256))...)
	fixed := tpm2.ObjFixedTPM | tpm2.ObjFixedParent
	signer := eccKey(signingKey, null, tpm2.CurveP256)
	p.expect(tpm2.RCSuccess, "signer", createPrimaryCmd(tpm2.RHOwner, &signer, ""))
	const s, k = tpm2.TransientFirst, tpm2.TransientFirst + 1
	storage := storageKey(eccKey(0, null, tpm2.CurveP256))
	for name, pub := range map[string]tpm2.Public{
		"signs":             signer,
		"signs, fixed":      eccKey(signingKey|fixed, null, tpm2.CurveP256),
		"decrypts":          eccKey(usable|tpm2.ObjDecrypt, null, tpm2.CurveP384),
		"both, RSA":         rsaKey(usable|tpm2.ObjDecrypt|tpm2.ObjSign, null),
		"storage":           storage,
		"keyed hash":        hmacKey(signingKey, schemeOf(tpm2.AlgHMAC)),
		"restricted signer": eccKey(signingKey|tpm2.ObjRestricted, schemeOf(tpm2.AlgECDSA), tpm2.CurveP256),
	} {
		p.expect(tpm2.RCSuccess, name, createPrimaryCmd(tpm2.RHOwner, &pub, ""))
		for bit := 23; bit < 32; bit++ {
			p.sameX509(fmt.Sprintf("%s, use %d", name, bit), certifyX509Cmd(k, s, ecdsa, partial(nil, keyUsage(1<<bit))))
		}
		attrs := extension(oidTPMAObject, 0, u32(uint32(pub.Attributes))...)
		p.sameX509(name+", its attributes", certifyX509Cmd(k, s, ecdsa, partial(nil, attrs, keyUsage(0))))
		attrs = extension(oidTPMAObject, 0, u32(uint32(pub.Attributes)^1<<6)...)
		p.sameX509(name+", others", certifyX509Cmd(k, s, ecdsa, partial(nil, attrs, keyUsage(0))))
		p.sameX509(name+" signs", certifyX509Cmd(s, k, u16(uint16(tpm2.AlgNull)), partial(nil, keyUsage(0))))
		p.sameX509(name+" signs, an algorithm is given", certifyX509Cmd(s, k, u16(uint16(tpm2.AlgNull)), partial(der(derSequence), keyUsage(0))))
		p.sameX509(name+" signs by ECDSA", certifyX509Cmd(s, k, ecdsa, partial(nil, keyUsage(0))))
		p.expect(tpm2.RCSuccess, "flush", flushCmd(k))
	}
	for name, cmd := range map[string][]byte{
		"reserved":       frame(tpm2.CCCertifyX509, []tpm2.Handle{s, s}, append(password(""), password("")...), buf16([]byte{0}), ecdsa, buf16(partial(nil, keyUsage(0)))),
		"no certificate": certifyX509Cmd(s, s, ecdsa, nil),
		"no scheme":      certifyX509Cmd(s, s, u16(uint16(tpm2.AlgNull)), partial(nil, keyUsage(0))),
		"no object":      certifyX509Cmd(tpm2.RHNull, s, ecdsa, partial(nil, keyUsage(0))),
		"no use":         certifyX509Cmd(s, s, ecdsa, partial(nil)),
		"five":           certifyX509Cmd(s, s, ecdsa, partial(append(der(derSequence), der(derSequence)...), keyUsage(0))),
		"two extensions": certifyX509Cmd(s, s, ecdsa, der(derSequence, bytes.Join(certificateParts(), nil), der(derExtensions, der(derSequence, keyUsage(0))), der(derExtensions))),
		"only two":       certifyX509Cmd(s, s, ecdsa, der(derSequence, bytes.Join(certificateParts()[1:], nil), der(derExtensions, der(derSequence, keyUsage(0))))),
		"no bits":        certifyX509Cmd(s, s, ecdsa, partial(nil, extension(oidKeyUsage, 0))),
		"8 unused":       certifyX509Cmd(s, s, ecdsa, partial(nil, extension(oidKeyUsage, 8, 0, 0))),
	} {
		p.sameX509(name, cmd)
	}
	p.expect(tpm2.RCSuccess, "a sequence", frame(tpm2.CCHashSequenceStart, nil, nil, buf16(nil), u16(uint16(tpm2.AlgSHA256))))
	p.expect(tpm2.RCAsymmetric.H(2), "a sequence", certifyX509Cmd(k, s, ecdsa, partial(nil, keyUsage(0))))
	p.expect(tpm2.RCKey.H(1), "signed by a sequence", certifyX509Cmd(s, k, ecdsa, partial(nil, keyUsage(0))))
	wide := certifyX509Cmd(s, s, ecdsa, partial(nil, extension(oidKeyUsage, 0, 1, 0, 0, 0, 0)))
	if rc := code(p.execute(wide)); rc != tpm2.RCValue.P(3) { // undefined in C
		t.Errorf("33 bits: %v", rc)
	}
	if rc := code(p.execute(frame(tpm2.CCCertifyX509, []tpm2.Handle{s, tpm2.RHNull}, append(password(""), password("")...),
		buf16(nil), ecdsa, buf16(partial(nil, keyUsage(0)))))); rc != tpm2.RCKey.H(1) {
		t.Errorf("no signer: %v", rc)
	}
}

// TestCertifyX509Altered alters a partial certificate at every byte. Where ours
// is refused and swtpm's is not, something was left over in a structure.
func TestCertifyX509Altered(t *testing.T) {
	p := newTwins(t)
	signer := eccKey(signingKey, schemeOf(tpm2.AlgECDSA), tpm2.CurveP256)
	p.expect(tpm2.RCSuccess, "signer", createPrimaryCmd(tpm2.RHOwner, &signer, ""))
	attrs := extension(oidTPMAObject, 0, u32(uint32(signer.Attributes))...)
	good := partial(nil, attrs, keyUsage(usageDigitalSignature))
	null := u16(uint16(tpm2.AlgNull))
	refused := 0
	for at := range good {
		for _, v := range []byte{0, 1, 3, 0x30, 0x7F, 0x80, 0x81, 0x82, 0xA3, 0xFF, good[at] + 1, good[at] - 1, good[at] + 2} {
			cert := bytes.Clone(good)
			cert[at] = v
			cmd := certifyX509Cmd(tpm2.TransientFirst, tpm2.TransientFirst, null, cert)
			got, want := code(p.execute(cmd)), code(p.o.execute(cmd))
			if got == tpm2.RCValue.P(3) && (want == tpm2.RCSuccess || want == tpm2.RCAttributes.H(2)) {
				refused++
			} else if got != want {
				t.Errorf("byte %d is 0x%02x: ours %v, swtpm %v: %x", at, v, got, want, cert)
			}
		}
	}
	if refused == 0 || refused > 60 {
		t.Errorf("%d certificates are refused that swtpm takes", refused)
	}
}

// FuzzCertifyX509 reads any bytes as a partial certificate. Where the extensions
// pass for a key that is for nothing, a verifier must not read a use in them.
func FuzzCertifyX509(f *testing.F) {
	f.Add(partial(nil, keyUsage(usageDigitalSignature)))
	f.Add(partial(der(derSequence), extension(oidTPMAObject, 0, 0, 4, 0, 0x40), keyUsage(usageKeyAgreement)))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, rc := parseCertificate(b)
		if rc != tpm2.RCSuccess || checkExtensions(p.extensions, 0) != tpm2.RCSuccess {
			return
		}
		var list asn1.RawValue
		var extensions []pkix.Extension
		if _, err := asn1.Unmarshal(p.extensions, &list); err != nil {
			return // nor does a verifier
		}
		if _, err := asn1.Unmarshal(list.Bytes, &extensions); err != nil {
			return
		}
		for _, x := range extensions {
			var bits asn1.BitString
			if !x.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 15}) {
				continue
			}
			if rest, err := asn1.Unmarshal(x.Value, &bits); err != nil || len(rest) != 0 {
				return
			}
			for i := range 9 {
				if bits.At(i) != 0 {
					t.Fatalf("%x has use %d", b, i)
				}
			}
			return // the first; a verifier refuses two
		}
	})
}
