package tpm

import (
	"github.com/ashlar-cloud/ashlar/tpm/internal/pcr"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// profile is what an instance shows of the commands and algorithms that there
// are.
type profile struct {
	commands *commandSet
	// impl is what its decoders accept.
	impl tpm2.Implementation
}

// nullProfile is that of an instance made without a profile: what libtpms 0.9.2
// shows.
var nullProfile = profile{
	commands: registry,
	impl: tpm2.Implementation{
		Hashes:      []tpm2.AlgID{tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512},
		RSABits:     []uint16{2048, 3072},
		Curves:      []tpm2.ECCCurve{tpm2.CurveP256, tpm2.CurveP384},
		Ciphers:     []tpm2.Cipher{{Alg: tpm2.AlgAES, KeyBits: []uint16{128, 256}}},
		RSASchemes:  []tpm2.AlgID{tpm2.AlgRSASSA, tpm2.AlgRSAPSS, tpm2.AlgRSAES, tpm2.AlgOAEP},
		ECCSchemes:  []tpm2.AlgID{tpm2.AlgECDSA, tpm2.AlgECDH},
		SymModes:    []tpm2.AlgID{tpm2.AlgCTR, tpm2.AlgOFB, tpm2.AlgCBC, tpm2.AlgCFB, tpm2.AlgECB},
		MaxRSABytes: 384,
		MaxHashes:   pcr.Banks,
	},
}
