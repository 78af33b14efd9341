package collateral

import (
	"testing"
	"time"
)

// TestAddresses holds the addresses to what the makers document (AMD 57230,
// sections 4 and 5; Intel's PCS API version 4).
func TestAddresses(t *testing.T) {
	fmc := uint8(1)
	for want, n := range map[string]Need{
		"https://kdsintf.amd.com/vcek/v1/Turin/59790fb1c39f35c1?fmcSPL=01&blSPL=01&teeSPL=01&snpSPL=04&ucodeSPL=81": AMDCertificate("Turin",
			[]byte{0x59, 0x79, 0x0f, 0xb1, 0xc3, 0x9f, 0x35, 0xc1}, SPLs{FMC: &fmc, BootLoader: 1, TEE: 1, SNP: 4, Microcode: 0x51}),
		"https://kdsintf.amd.com/vcek/v1/Milan/00?blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219":                AMDCertificate("Milan", []byte{0}, SPLs{BootLoader: 4, SNP: 24, Microcode: 219}),
		"https://kdsintf.amd.com/vlek/v1/Genoa/cert_chain":                                                  AMDChain("Genoa", VLEK),
		"https://kdsintf.amd.com/vcek/v1/Genoa/crl":                                                         AMDCRL("Genoa", VCEK),
		"https://api.trustedservices.intel.com/sgx/certification/v4/tcb?fmspc=00606a000000&update=standard": IntelTCBInfo(SGX, []byte{0, 0x60, 0x6a, 0, 0, 0}),
		"https://api.trustedservices.intel.com/tdx/certification/v4/qe/identity?update=standard":            IntelQEIdentity(TDX),
		"https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl?ca=platform&encoding=der":        IntelPCKCRL("platform"),
		"https://certificates.trustedservices.intel.com/IntelSGXRootCA.der":                                 IntelRootCRL(),
		"https://www.microsoft.com/pkiops/x.crl":                                                            At("http://www.microsoft.com/pkiops/x.crl", "x", FormCRL),
	} {
		if n.URL != want {
			t.Errorf("%s\nwant %s", n.URL, want)
		}
		if err := n.check(); err != nil {
			t.Error(err)
		}
	}
}

// FuzzDecodeItem wants what is read to be written alike.
func FuzzDecodeItem(f *testing.F) {
	b, err := (&Item{URL: "https://x/", Form: FormCRL, SHA256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := decodeItem(b)
		if err != nil {
			return
		}
		again, err := i.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeItem(again); err != nil {
			t.Error(err)
		}
	})
}

// FuzzInspect looks for what a host could send that does harm.
func FuzzInspect(f *testing.F) {
	from := time.Now()
	f.Add(certificateFor(f, from, 1))
	f.Add(crlFor(f, from, 1))
	f.Add(intelJSON(from, 1, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, form := range []Form{FormCertificates, FormCRL, FormIntelJSON} {
			if end, err := form.inspect(b); err == nil && end.IsZero() {
				t.Errorf("%s without an end", form)
			}
		}
	})
}
