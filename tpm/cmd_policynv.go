package tpm

import (
	"bytes"
	"encoding/binary"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

type policyNVIn struct {
	operandB  tpm2.Digest
	offset    tpm2.UINT16
	operation tpm2.EO
}

// Walk visits the parameters.
func (p *policyNVIn) Walk(c *tpm2.Codec) {
	c.Param(&p.operandB)
	c.Param(&p.offset)
	c.Param(&p.operation)
}

// policyNV is TPM2_PolicyNV (Part 3, 23.9).
func (e *Engine) policyNV(c *call, in *policyNVIn, _ *none) tpm2.RC {
	s := e.policySession(c)
	index := c.indices[1]
	if !s.Trial {
		if rc := nvReadable(c.handles[0], index); rc != tpm2.RCSuccess {
			return rc
		}
		size := int(index.Public.DataSize)
		if int(in.offset) > size {
			return tpm2.RCValue.P(2)
		}
		if size-int(in.offset) < len(in.operandB) {
			return tpm2.RCSize.P(1)
		}
		if !compare(in.operation, index.Data[in.offset:][:len(in.operandB)], in.operandB) {
			return tpm2.RCPolicy
		}
	}
	args := s.AuthHash.Digest(in.operandB, binary.BigEndian.AppendUint16(nil, uint16(in.offset)),
		binary.BigEndian.AppendUint16(nil, uint16(in.operation)))
	extendPolicy(s, tpm2.CCPolicyNV, args, index.Name)
	return tpm2.RCSuccess
}

// compare applies a comparison to two operands of one length, big-endian.
// Signed ones are in two's complement.
func compare(op tpm2.EO, a, b []byte) bool {
	switch op {
	case tpm2.EOEq:
		return bytes.Equal(a, b)
	case tpm2.EONeq:
		return !bytes.Equal(a, b)
	case tpm2.EOUnsignedGT:
		return bytes.Compare(a, b) > 0
	case tpm2.EOUnsignedLT:
		return bytes.Compare(a, b) < 0
	case tpm2.EOUnsignedGE:
		return bytes.Compare(a, b) >= 0
	case tpm2.EOUnsignedLE:
		return bytes.Compare(a, b) <= 0
	case tpm2.EOSignedGT:
		return compareSigned(a, b) > 0
	case tpm2.EOSignedLT:
		return compareSigned(a, b) < 0
	case tpm2.EOSignedGE:
		return compareSigned(a, b) >= 0
	case tpm2.EOSignedLE:
		return compareSigned(a, b) <= 0
	}
	for i := range b {
		if op == tpm2.EOBitSet && a[i]&b[i] != b[i] || op == tpm2.EOBitClear && a[i]&b[i] != 0 {
			return false
		}
	}
	return true
}

// compareSigned compares two's complement numbers of one length.
func compareSigned(a, b []byte) int {
	if len(a) == 0 {
		return 0
	}
	// With the sign bits inverted the order is that of unsigned numbers.
	if x, y := a[0]^0x80, b[0]^0x80; x != y {
		return int(x) - int(y)
	}
	return bytes.Compare(a[1:], b[1:])
}
