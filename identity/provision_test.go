package identity

import (
	"bytes"
	"encoding/hex"
	"testing"

	legacy "github.com/google/go-tpm/tpm2"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// TestEKPolicies compares the policies with those that the EK Credential Profile
// 2.0 publishes (B.6.2 and B.6.5).
func TestEKPolicies(t *testing.T) {
	for kind, want := range map[string]string{
		"rsa2048":   "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa",
		"secp256r1": "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa",
		"rsa3072":   "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12",
		"secp384r1": "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12",
		"secp521r1": "b8221ca69e8550a4914de3faa6a18c072cc01208073a928d5d66d59ef79e49a429c41a6b269571d5" +
			"7edb25fbdb1838425608b413cd616a5f6db5b6071af99bea",
	} {
		ek, err := EK(kind, EKDecrypts)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(ek.Template.AuthPolicy); got != want {
			t.Errorf("%s: %s", kind, got)
		}
	}
}

// TestTemplates compares templates with those of another implementation.
func TestTemplates(t *testing.T) {
	for _, c := range []struct {
		what, kind string
		of         func(string) (Provision, error)
		want       legacy.TPMTPublic
	}{
		{"EK", "rsa2048", func(k string) (Provision, error) { return EK(k, EKDecrypts) }, legacy.RSAEKTemplate},
		{"EK", "ecc_nist_p256", func(k string) (Provision, error) { return EK(k, EKDecrypts) }, legacy.ECCEKTemplate},
		{"SRK", "RSA2048", SRK, legacy.RSASRKTemplate},
		{"SRK", "secp256r1", SRK, legacy.ECCSRKTemplate},
	} {
		p, err := c.of(c.kind)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := tpm2.Marshal(&p.Template), legacy.Marshal(c.want); !bytes.Equal(got, want) {
			t.Errorf("%s %s:\n%x\nnot\n%x", c.kind, c.what, got, want)
		}
	}
}

// TestProvisions: every key can be asked for of a TPM, no two share a handle or an
// Index, and each is what its name says.
func TestProvisions(t *testing.T) {
	taken := map[tpm2.Handle]string{PlatformCertIndex: "platform certificate"}
	for _, kind := range KeyKinds() {
		for _, c := range []struct {
			what       string
			p          Provision
			err        error
			have, lack tpm2.ObjectAttributes
		}{
			provisioned("EK", func() (Provision, error) { return EK(kind, EKDecrypts) }, tpm2.ObjRestricted|tpm2.ObjDecrypt, tpm2.ObjSign),
			provisioned("signing EK", func() (Provision, error) { return EK(kind, EKSigns) }, tpm2.ObjSign, tpm2.ObjDecrypt|tpm2.ObjRestricted),
			provisioned("any EK", func() (Provision, error) { return EK(kind, EKSignsAndDecrypts) }, tpm2.ObjSign|tpm2.ObjDecrypt, tpm2.ObjRestricted),
			provisioned("SRK", func() (Provision, error) { return SRK(kind) }, tpm2.ObjNoDA|tpm2.ObjDecrypt, tpm2.ObjSign),
			provisioned("IAK", func() (Provision, error) { return IAK(kind) }, tpm2.ObjRestricted|tpm2.ObjSign, tpm2.ObjDecrypt),
			provisioned("IDevID", func() (Provision, error) { return IDevID(kind) }, tpm2.ObjSign, tpm2.ObjDecrypt|tpm2.ObjRestricted),
		} {
			if c.err != nil {
				t.Fatal(c.err)
			}
			a := c.p.Template.Attributes
			if c.p.Kind != kind || !a.Has(c.have|tpm2.ObjFixedTPM|tpm2.ObjFixedParent|tpm2.ObjSensitiveDataOrigin) || a&c.lack != 0 {
				t.Errorf("%s %s: attributes %x", kind, c.what, uint32(a))
			}
			var back tpm2.Public
			if err := tpm2.Unmarshal(tpm2.Marshal(&c.p.Template), &back); err != nil {
				t.Errorf("%s %s: %v", kind, c.what, err)
			}
			if c.what != "EK" {
				continue
			}
			if err := CheckEK(&c.p.Template); err != nil {
				t.Error(err)
			}
			for _, h := range []tpm2.Handle{c.p.Handle, c.p.CertIndex} {
				if other, ok := taken[h]; ok {
					t.Errorf("%x is that of %s and of %s", uint32(h), other, kind)
				}
				taken[h] = kind
			}
		}
	}
	for _, kind := range []string{"", "rsa1024", "secp224r1", "ecc"} {
		if _, err := EK(kind, EKDecrypts); err == nil {
			t.Errorf("a key of kind %q", kind)
		}
	}
}

func provisioned(what string, of func() (Provision, error), have, lack tpm2.ObjectAttributes) (c struct {
	what       string
	p          Provision
	err        error
	have, lack tpm2.ObjectAttributes
}) {
	c.what, c.have, c.lack = what, have, lack
	c.p, c.err = of()
	return c
}
