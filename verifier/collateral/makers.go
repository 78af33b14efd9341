package collateral

import (
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Hosts of makers.
const (
	amdHost   = "kdsintf.amd.com"
	intelHost = "api.trustedservices.intel.com"
	intelCRLs = "certificates.trustedservices.intel.com"
)

// Rate is how often a host may be asked: Burst requests at once, then one each
// Every.
type Rate struct {
	Burst int
	Every time.Duration
}

// rates are those of hosts known here. AMD's KDS answers 429 to a client that
// asks oftener than about once in ten seconds; Intel's PCS, to one that asks
// several times in a second. No other host is asked, unless Options name it:
// Evidence may carry any address.
var rates = map[string]Rate{
	amdHost:                  {Burst: 6, Every: 10 * time.Second},
	intelHost:                {Burst: 20, Every: time.Second},
	intelCRLs:                {Burst: 20, Every: time.Second},
	"www.microsoft.com":      {Burst: 10, Every: time.Second}, // CRLs and CAs of Azure's AK certificates
	"crl.microsoft.com":      {Burst: 10, Every: time.Second},
	"pki.goog":               {Burst: 10, Every: time.Second},
	"crl.pki.goog":           {Burst: 10, Every: time.Second},
	"storage.googleapis.com": {Burst: 10, Every: time.Second}, // privateca-content: CRLs and CAs of Google's EK certificates
}

// Signer says which of AMD's two keys signs reports.
type Signer string

// AMD's signers: the chip's own key, or the key of a cloud provider. They are
// part of addresses.
const (
	VCEK Signer = "vcek"
	VLEK Signer = "vlek"
)

// SPLs are the security patch levels that AMD's KDS is asked with (AMD 57230,
// section 3.1). FMC is Turin's alone.
type SPLs struct {
	FMC                             *uint8
	BootLoader, TEE, SNP, Microcode uint8
}

// AMDCertificate is the VCEK certificate of a chip at a TCB. product is the line
// by its KDS name ("Milan", "Genoa", "Turin"), hwid the chip's identity: 64 bytes,
// 8 from Turin on.
func AMDCertificate(product string, hwid []byte, tcb SPLs) Need {
	q := ""
	if tcb.FMC != nil {
		q = fmt.Sprintf("fmcSPL=%02d&", *tcb.FMC)
	}
	q += fmt.Sprintf("blSPL=%02d&teeSPL=%02d&snpSPL=%02d&ucodeSPL=%02d", tcb.BootLoader, tcb.TEE, tcb.SNP, tcb.Microcode)
	id := hex.EncodeToString(hwid)
	return Need{What: fmt.Sprintf("the VCEK certificate of chip %.16s… (%s) at its TCB", id, product), Form: FormCertificates,
		URL: "https://" + amdHost + "/vcek/v1/" + url.PathEscape(product) + "/" + id + "?" + q}
}

// AMDChain is the chain of a product line: the ASK or ASVK, then the ARK.
func AMDChain(product string, s Signer) Need {
	return Need{What: fmt.Sprintf("AMD's chain for a %s of %s", strings.ToUpper(string(s)), product), Form: FormCertificates,
		URL: "https://" + amdHost + "/" + string(s) + "/v1/" + url.PathEscape(product) + "/cert_chain"}
}

// AMDCRL is the list of what the ARK of a product line has revoked.
func AMDCRL(product string, s Signer) Need {
	return Need{What: fmt.Sprintf("AMD's revocation list for a %s of %s", strings.ToUpper(string(s)), product), Form: FormCRL,
		URL: "https://" + amdHost + "/" + string(s) + "/v1/" + url.PathEscape(product) + "/crl"}
}

// TEE says which of Intel's TEEs is meant.
type TEE string

// Intel's TEEs, as in addresses.
const (
	SGX TEE = "sgx"
	TDX TEE = "tdx"
)

// Headers in which Intel sends the chain of a signer.
const (
	HeaderTCBInfoChain  = "Tcb-Info-Issuer-Chain"
	HeaderIdentityChain = "Sgx-Enclave-Identity-Issuer-Chain"
	HeaderPCKCRLChain   = "Sgx-Pck-Crl-Issuer-Chain"
)

// keptHeaders are kept with an Item.
var keptHeaders = []string{HeaderTCBInfoChain, HeaderIdentityChain, HeaderPCKCRLChain}

func intel(t TEE, what, path, query string) Need {
	base := "https://" + intelHost + "/" + string(t) + "/certification/v4/" + path + "?"
	if query != "" {
		query += "&"
	}
	return Need{What: what, Form: FormIntelJSON, URL: base + query + "update=standard", Ahead: base + query + "update=early"}
}

// IntelTCBInfo is the TCB information of a platform's FMSPC (6 bytes).
func IntelTCBInfo(t TEE, fmspc []byte) Need {
	id := hex.EncodeToString(fmspc)
	return intel(t, fmt.Sprintf("Intel's TCB information for %s of FMSPC %s", strings.ToUpper(string(t)), id), "tcb", "fmspc="+id)
}

// IntelQEIdentity is the identity of the quoting enclave for SGX, or of the one
// for TDX.
func IntelQEIdentity(t TEE) Need {
	return intel(t, fmt.Sprintf("Intel's identity of the quoting enclave for %s", strings.ToUpper(string(t))), "qe/identity", "")
}

// IntelPCKCRL is the revocation list of an Intel CA that certifies platforms:
// "platform" or "processor".
func IntelPCKCRL(ca string) Need {
	return Need{What: fmt.Sprintf("the revocation list of Intel's %s CA", ca), Form: FormCRL,
		URL: "https://" + intelHost + "/sgx/certification/v4/pckcrl?ca=" + url.QueryEscape(ca) + "&encoding=der"}
}

// IntelRootCRL is the revocation list of Intel's SGX Root CA.
func IntelRootCRL() Need {
	return Need{What: "the revocation list of Intel's SGX root CA", Form: FormCRL,
		URL: "https://" + intelCRLs + "/IntelSGXRootCA.der"}
}

// At is what a certificate names as an address: of its issuer's certificate or
// revocation list. An http address, as certificates have them, becomes https.
func At(address, what string, f Form) Need {
	if rest, plain := strings.CutPrefix(address, "http://"); plain {
		address = "https://" + rest
	}
	return Need{What: what, Form: f, URL: address}
}
