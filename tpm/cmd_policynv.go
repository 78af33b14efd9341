package tpm

import (
	"bytes"
	"encoding/binary"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// policyConditionCommands are those of Part 3, 23, by which a policy depends on
// time, and on a capability.
var policyConditionCommands = []command{
	define(policyCommand(tpm2.CCPolicyCounterTimer), (*Engine).policyCounterTimer),
	define(policyCommand(tpm2.CCPolicyCapability), (*Engine).policyCapability),
}

// policyNVIn is a comparison with what is stored: the operand, where in it, and
// how.
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
	extendPolicy(s, tpm2.CCPolicyNV, in.digest(s.AuthHash), index.Name)
	return tpm2.RCSuccess
}

// digest is what a policy keeps of the comparison, and of what was compared
// where nothing else says it.
func (p *policyNVIn) digest(alg tpm2.AlgID, of ...byte) tpm2.Digest {
	return alg.Digest(p.operandB, binary.BigEndian.AppendUint16(nil, uint16(p.offset)),
		binary.BigEndian.AppendUint16(nil, uint16(p.operation)), of)
}

// policyCounterTimer is TPM2_PolicyCounterTimer (Part 3, 23.10): a comparison
// with the TPMS_TIME_INFO of now. The range is checked in a trial too.
func (e *Engine) policyCounterTimer(c *call, in *policyNVIn, _ *none) tpm2.RC {
	s := e.policySession(c)
	info := tpm2.Marshal(&tpm2.TimeInfo{Time: e.state.timing.Time, ClockInfo: e.state.timing.ClockInfo()})
	if int(in.offset) > len(info) {
		return tpm2.RCValue.P(2)
	}
	if len(info)-int(in.offset) < len(in.operandB) {
		return tpm2.RCRange
	}
	if !s.Trial && !compare(in.operation, info[in.offset:][:len(in.operandB)], in.operandB) {
		return tpm2.RCPolicy
	}
	extendPolicy(s, tpm2.CCPolicyCounterTimer, in.digest(s.AuthHash))
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
