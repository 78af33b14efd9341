package tpm

import (
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// TestRSA4096 takes the largest key through what moves it: the profiles that
// show it have room for it everywhere.
func TestRSA4096(t *testing.T) {
	r := fullRig(t, true)
	parent := eccStorage()
	r.must(tpm2.RCSuccess, tpm2.CCCreatePrimary, []tpm2.Handle{tpm2.RHOwner}, password(""), buf16(make([]byte, 4)), buf16(parent), buf16(nil), u32(0))
	template := rsaKey(signingKey|tpm2.ObjDecrypt, tpm2.Scheme{Alg: tpm2.AlgNull})
	template.KeyBits = 4096
	body := r.must(tpm2.RCSuccess, tpm2.CCCreate, []tpm2.Handle{tpm2.TransientFirst}, password(""), buf16(make([]byte, 4)), buf16(tpm2.Marshal(&template)), buf16(nil), u32(0))
	private, rest, _ := cutSized(body[4:])
	public, _, _ := cutSized(rest)
	r.must(tpm2.RCSuccess, tpm2.CCLoad, []tpm2.Handle{tpm2.TransientFirst}, password(""), buf16(private), buf16(public))
	key := tpm2.TransientFirst + 1
	context := r.must(tpm2.RCSuccess, tpm2.CCContextSave, []tpm2.Handle{key}, nil)
	r.must(tpm2.RCSuccess, tpm2.CCContextLoad, nil, nil, context)
	r.must(tpm2.RCSuccess, tpm2.CCFlushContext, nil, nil, u32(uint32(key)+1))
	r.must(tpm2.RCSuccess, tpm2.CCEvictControl, []tpm2.Handle{tpm2.RHOwner, key}, password(""), u32(uint32(goldenKey)))
	r.must(tpm2.RCSuccess, tpm2.CCFlushContext, nil, nil, u32(uint32(key)))
	r.power(r.durable)
	r.must(tpm2.RCSuccess, tpm2.CCStartup, nil, nil, u16(0))
	message := tpm2.AlgSHA256.Digest()
	sig := r.must(tpm2.RCSuccess, tpm2.CCSign, []tpm2.Handle{goldenKey}, password(""), buf16(message), append(u16(uint16(tpm2.AlgRSAPSS)), 0, 11), nullHashCheck)
	r.must(tpm2.RCSuccess, tpm2.CCVerifySignature, []tpm2.Handle{goldenKey}, nil, buf16(message), params(t, sig))
	secret := r.must(tpm2.RCSuccess, tpm2.CCRSAEncrypt, []tpm2.Handle{goldenKey}, nil, buf16(message), append(u16(uint16(tpm2.AlgOAEP)), 0, 11), buf16(nil))
	r.must(tpm2.RCSuccess, tpm2.CCRSADecrypt, []tpm2.Handle{goldenKey}, password(""), secret, append(u16(uint16(tpm2.AlgOAEP)), 0, 11), buf16(nil))
}
