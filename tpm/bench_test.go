package tpm

import (
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// benchExecute measures one command on a started TPM.
func benchExecute(b *testing.B, cmd func(r *rig) []byte) {
	r := newRig(&testing.T{}, true)
	frame := cmd(r)
	buf := make([]byte, 0, DefaultBufferSize)
	b.ReportAllocs()
	for b.Loop() {
		resp, commit := r.e.Execute(Request{}, frame, buf)
		if code(resp) != tpm2.RCSuccess {
			b.Fatal(code(resp))
		}
		commit.Done()
	}
}

func BenchmarkPCRRead(b *testing.B) {
	benchExecute(b, func(*rig) []byte {
		return frame(tpm2.CCPCRRead, nil, nil, u32(1), []byte{0, 11, 3, 0xFF, 0, 0})
	})
}

func BenchmarkPCRExtend(b *testing.B) {
	benchExecute(b, func(*rig) []byte {
		return frame(tpm2.CCPCRExtend, []tpm2.Handle{10}, password(""), u32(1), u16(uint16(tpm2.AlgSHA256)), make([]byte, 32))
	})
}

func BenchmarkSignECC(b *testing.B) {
	benchExecute(b, func(r *rig) []byte {
		pub := eccSigning()
		r.must(tpm2.RCSuccess, tpm2.CCCreatePrimary, []tpm2.Handle{tpm2.RHOwner}, password(""), buf16(make([]byte, 4)),
			buf16(pub), buf16(nil), u32(0))
		return frame(tpm2.CCSign, []tpm2.Handle{tpm2.TransientFirst}, password(""), buf16(make([]byte, 32)),
			u16(uint16(tpm2.AlgECDSA)), u16(uint16(tpm2.AlgSHA256)), u16(uint16(tpm2.STHashCheck)),
			u32(uint32(tpm2.RHNull)), buf16(nil))
	})
}
