package tpm

import (
	"bytes"
	"encoding/binary"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// goodPolicy are parameters for the policy commands, as good gives them.
func goodPolicy(cc tpm2.CC) [][]byte {
	digest := buf16(make([]byte, 32))
	name := buf16(append([]byte{0, 11}, make([]byte, 32)...))
	timed := func(operand []byte, offset uint16, op tpm2.EO) []byte {
		return bytes.Join([][]byte{buf16(operand), u16(offset), u16(uint16(op))}, nil)
	}
	switch cc {
	case tpm2.CCPolicyCpHash, tpm2.CCPolicyNameHash, tpm2.CCPolicyTemplate:
		return [][]byte{digest}
	case tpm2.CCPolicyDuplicationSelect:
		return [][]byte{bytes.Join([][]byte{name, name, {1}}, nil), bytes.Join([][]byte{name, name, {0}}, nil)}
	case tpm2.CCPolicyNvWritten:
		return [][]byte{{0}, {1}}
	case tpm2.CCPolicyCounterTimer:
		return [][]byte{timed(u32(0), 16, tpm2.EOEq), timed([]byte{1}, 24, tpm2.EOUnsignedLE), timed(nil, 3, tpm2.EOBitSet)}
	case tpm2.CCPolicyTicket:
		return [][]byte{bytes.Join([][]byte{buf16(make([]byte, 8)), digest, digest, name,
			u16(uint16(tpm2.STAuthSecret)), u32(uint32(tpm2.RHOwner)), digest}, nil)}
	}
	return nil
}

// comparisonExcused are the differences of comparisons that are meant: version
// 0.9 orders two negative numbers the wrong way round, and the clock of this
// engine stands still in the test.
func comparisonExcused(d *command, cmd []byte, ours, theirs tpm2.RC) bool {
	if d.cc == tpm2.CCPolicyTicket {
		return theirs == tpm2.RCExpired.P(1)
	}
	if d.cc != tpm2.CCPolicyNV && d.cc != tpm2.CCPolicyCounterTimer {
		return false
	}
	if ours != tpm2.RCPolicy && theirs != tpm2.RCPolicy {
		return false
	}
	in, ok := comparisonOf(d, cmd)
	if !ok {
		return false
	}
	if d.cc == tpm2.CCPolicyCounterTimer && in.offset < 16 {
		return true
	}
	switch in.operation {
	case tpm2.EOSignedGT, tpm2.EOSignedLT, tpm2.EOSignedGE, tpm2.EOSignedLE:
		return len(in.operandB) > 0 && in.operandB[0]&0x80 != 0
	}
	return false
}

// comparisonOf decodes the parameters of a comparison.
func comparisonOf(d *command, cmd []byte) (in policyNVIn, ok bool) {
	b := cmd[headerSize+4*len(d.handles):]
	if tpm2.ST(uint16(cmd[0])<<8|uint16(cmd[1])) == tpm2.STSessions {
		_, rest, ok := cutSized(b[2:])
		if !ok {
			return in, false
		}
		b = rest
	}
	dec := tpm2.NewDecoderFor(b, &impl)
	in.Walk(&dec)
	return in, dec.RC() == tpm2.RCSuccess
}

// lastHandle is the last handle of a command: the session of a policy command.
func lastHandle(d *command, cmd []byte) tpm2.Handle {
	at := headerSize + 4*(len(d.handles)-1)
	if len(d.handles) == 0 || len(cmd) < at+4 {
		return 0
	}
	return tpm2.Handle(binary.BigEndian.Uint32(cmd[at:]))
}
