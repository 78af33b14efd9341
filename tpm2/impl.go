package tpm2

// Implementation says which algorithms and sizes a decoder accepts: a TPM's
// own limits. A decoder without one accepts everything that Part 2 and the
// algorithm registry name, which is what a verifier wants.
type Implementation struct {
	Hashes      []AlgID    // hash algorithms
	RSABits     []uint16   // RSA key sizes in bits
	Curves      []ECCCurve // elliptic curves
	Ciphers     []Cipher   // block ciphers
	RSASchemes  []AlgID    // schemes of RSA keys, signing and encrypting
	ECCSchemes  []AlgID    // schemes of ECC keys
	SymModes    []AlgID    // modes of block ciphers, CMAC among them
	MaxRSABytes int        // bytes of the largest RSA modulus
	MaxHashes   int        // entries of a TPML_PCR_SELECTION, one per hash
}

// Cipher is a block cipher with its key sizes in bits.
type Cipher struct {
	Alg     AlgID
	KeyBits []uint16
}

// Cipher gives the entry of a block cipher, nil where it is not implemented.
func (i *Implementation) Cipher(alg AlgID) *Cipher {
	for k := range i.Ciphers {
		if i.Ciphers[k].Alg == alg {
			return &i.Ciphers[k]
		}
	}
	return nil
}

// MaxPrivate is the length in bytes of the largest TPM2B_PRIVATE: both integrity
// values and a TPM2B_SENSITIVE with the five CRT values of the largest RSA key,
// as the reference code counts them.
func (i *Implementation) MaxPrivate() int {
	const digest = 2 + MaxDigestSize
	return 4*digest + 2 + 2 + 2 + i.MaxRSABytes/2*5
}

// MaxTemplate is the length in bytes of the largest TPM2B_TEMPLATE: the
// structure that the reference code keeps a TPMT_PUBLIC in, 100 bytes besides
// the modulus of the largest RSA key.
func (i *Implementation) MaxTemplate() int { return 100 + i.MaxRSABytes }

// NewDecoderFor reads from b what impl accepts.
func NewDecoderFor(b []byte, impl *Implementation) Codec {
	return Codec{buf: b, mode: modeDecode, impl: impl}
}

// acceptAll is what a decoder without an Implementation accepts.
var acceptAll = Implementation{
	Hashes: []AlgID{AlgSHA1, AlgSHA256, AlgSHA384, AlgSHA512, AlgSM3256,
		AlgSHA3256, AlgSHA3384, AlgSHA3512},
	RSABits: []uint16{1024, 2048, 3072, 4096},
	Curves: []ECCCurve{CurveP192, CurveP224, CurveP256, CurveP384, CurveP521,
		CurveBNP256, CurveBNP638, CurveSM2},
	Ciphers: []Cipher{
		{AlgTDES, []uint16{128, 192}}, {AlgAES, []uint16{128, 192, 256}},
		{AlgSM4, []uint16{128}}, {AlgCamellia, []uint16{128, 192, 256}},
	},
	RSASchemes:  []AlgID{AlgRSASSA, AlgRSAPSS, AlgRSAES, AlgOAEP},
	ECCSchemes:  []AlgID{AlgECDSA, AlgECDAA, AlgSM2, AlgECSchnorr, AlgECDH, AlgECMQV},
	SymModes:    []AlgID{AlgCTR, AlgOFB, AlgCBC, AlgCFB, AlgECB, AlgCMAC},
	MaxRSABytes: 512,
	MaxHashes:   16,
}

// Accepts is the Implementation in force: what a decoder takes.
func (c *Codec) Accepts() *Implementation {
	if c.impl == nil {
		return &acceptAll
	}
	return c.impl
}

// has is slices.Contains without its generic call, for lists this short.
func has[T comparable](list []T, v T) bool {
	for i := range list {
		if list[i] == v {
			return true
		}
	}
	return false
}
