package tpm

import (
	"fmt"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// What guests rely on without asking: the EK certificates' Indices, and that a
// template of the TCG gives the key that the certificate is for.

// TestCertificateIndices treats an Index as swtpm_setup does that of an EK
// certificate: whose attributes end up as 0x62072801, which nobody can write
// any more, and which Clear leaves alone.
func TestCertificateIndices(t *testing.T) {
	p := startedPair(t)
	const attrs = tpm2.NVPlatformCreate | tpm2.NVAuthRead | tpm2.NVOwnerRead | tpm2.NVPPRead | tpm2.NVPPWrite | tpm2.NVNoDA | tpm2.NVWriteDefine
	for _, index := range []tpm2.Handle{0x01C00002, 0x01C0000A, 0x01C00016} {
		define := tpm2.NVPublic{Index: index, NameAlg: tpm2.AlgSHA256, Attributes: attrs, DataSize: 300}
		platform := []tpm2.Handle{tpm2.RHPlatform, index}
		write := frame(tpm2.CCNVWrite, platform, password(""), buf16(make([]byte, 300)), u16(0))
		p.expect(tpm2.RCSuccess, "define", frame(tpm2.CCNVDefineSpace, platform[:1], password(""), buf16(nil), buf16(tpm2.Marshal(&define))))
		p.expect(tpm2.RCSuccess, "write", write)
		p.expect(tpm2.RCSuccess, "lock", frame(tpm2.CCNVWriteLock, platform, password("")))
		use := func(when string) {
			t.Helper()
			resp := p.expect(tpm2.RCSuccess, when, readNVPublicCmd(index))
			var pub tpm2.SizedNVPublic
			var name tpm2.Name
			decode(t, resp[headerSize:], &pub, &name)
			if pub.Attributes != 0x62072801 {
				t.Errorf("%s: attributes 0x%08x", when, uint32(pub.Attributes))
			}
			for _, auth := range []tpm2.Handle{tpm2.RHOwner, tpm2.RHPlatform, index} {
				p.expect(tpm2.RCSuccess, when, frame(tpm2.CCNVRead, []tpm2.Handle{auth, index}, password(""), u16(300), u16(0)))
				p.same(when+": write", frame(tpm2.CCNVWrite, []tpm2.Handle{auth, index}, password(""), buf16([]byte("x")), u16(0)))
			}
			p.same(when+": undefine by the owner", frame(tpm2.CCNVUndefineSpace, []tpm2.Handle{tpm2.RHOwner, index}, password("")))
		}
		use("locked")
		p.expect(tpm2.RCSuccess, "Clear", frame(tpm2.CCClear, []tpm2.Handle{tpm2.RHLockout}, password("")))
		use("after Clear")
		for _, kind := range []tpm2.SU{tpm2.SUState, tpm2.SUClear} {
			p.expect(tpm2.RCSuccess, "Shutdown", shutdownCmd(kind))
			p.cut()
			p.expect(tpm2.RCSuccess, "Startup", startupCmd(kind))
			use(fmt.Sprintf("after Startup %v", kind))
		}
		p.same("the platform takes it away", frame(tpm2.CCNVUndefineSpace, platform, password("")))
	}
}

// TestEKTemplates makes the keys of the TCG's EK templates (EK Credential
// Profile, B.3 and B.4): L-1, L-2, H-1 to H-3, and those that nothing may be
// signed with.
func TestEKTemplates(t *testing.T) {
	p := newTwins(t)
	null := schemeOf(tpm2.AlgNull)
	policyA := tpm2.AlgSHA256.Digest(tpm2.AlgSHA256.Digest(make([]byte, 32), u32(uint32(tpm2.CCPolicySecret)), u32(uint32(tpm2.RHEndorsement))))
	const low = tpm2.ObjFixedTPM | tpm2.ObjFixedParent | tpm2.ObjSensitiveDataOrigin | tpm2.ObjAdminWithPolicy | tpm2.ObjRestricted | tpm2.ObjDecrypt
	aes := func(bits uint16) tpm2.SymDef { return tpm2.SymDef{Alg: tpm2.AlgAES, KeyBits: bits, Mode: tpm2.AlgCFB} }
	template := func(pub tpm2.Public, alg tpm2.AlgID, attrs tpm2.ObjectAttributes, policy []byte, sym tpm2.SymDef) tpm2.Public {
		pub.NameAlg, pub.Attributes, pub.AuthPolicy, pub.Symmetric = alg, attrs, policy, sym
		return pub
	}
	rsa, ecc := rsaKey(0, null), eccKey(0, null, tpm2.CurveP256)
	l1, l2 := template(rsa, tpm2.AlgSHA256, low, policyA, aes(128)), template(ecc, tpm2.AlgSHA256, low, policyA, aes(128))
	l1.Unique, l2.Point = make([]byte, 256), tpm2.ECCPoint{X: make([]byte, 32), Y: make([]byte, 32)}
	const high = low | tpm2.ObjUserWithAuth
	for name, pub := range map[string]tpm2.Public{
		"L-1": l1, "L-2": l2,
		"H-1": template(rsa, tpm2.AlgSHA256, high, tpm2.AlgSHA256.Digest([]byte("policy B")), aes(128)),
		"H-2": template(ecc, tpm2.AlgSHA256, high, tpm2.AlgSHA256.Digest([]byte("policy B")), aes(128)),
		"H-3": template(eccKey(0, null, tpm2.CurveP384), tpm2.AlgSHA384, high, tpm2.AlgSHA384.Digest([]byte("policy B")), aes(256)),
	} {
		p.expect(tpm2.RCSuccess, name, createPrimaryCmd(tpm2.RHEndorsement, &pub, ""))
		p.same(name+": kept", evictCmd(tpm2.RHOwner, tpm2.TransientFirst, 0x81010001))
		p.expect(tpm2.RCSuccess, name, flushCmd(tpm2.TransientFirst))
		p.expect(tpm2.RCSuccess, name, frame(tpm2.CCReadPublic, []tpm2.Handle{0x81010001}, nil))
		p.same(name+": let go", evictCmd(tpm2.RHOwner, 0x81010001, 0x81010001))
	}
}
