package tpm

import (
	"encoding/binary"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// executeFailed answers a command in failure mode (Part 1, 12.4): what the TPM
// is and that it has failed, and nothing else. It trusts no state.
func (e *Engine) executeFailed(cmd, buf []byte) []byte {
	if len(cmd) < headerSize || binary.BigEndian.Uint16(cmd) != uint16(tpm2.STNoSessions) {
		return errorResponse(buf, tpm2.RCFailure)
	}
	out := append(buf[:0], make([]byte, headerSize)...)
	body := cmd[headerSize:]
	switch tpm2.CC(binary.BigEndian.Uint32(cmd[6:])) {
	case tpm2.CCGetTestResult:
		out = append(out, 0, 0) // no outData
		out = binary.BigEndian.AppendUint32(out, uint32(tpm2.RCFailure))
	case tpm2.CCGetCapability:
		if len(body) != 12 || tpm2.Cap(binary.BigEndian.Uint32(body)) != tpm2.CapTPMProperties {
			return errorResponse(buf, tpm2.RCFailure)
		}
		p := tpm2.PT(binary.BigEndian.Uint32(body[4:]))
		out = e.appendFailureCapability(out, p, binary.BigEndian.Uint32(body[8:]))
	default:
		return errorResponse(buf, tpm2.RCFailure)
	}
	putHeader(out, tpm2.STNoSessions, tpm2.RCSuccess)
	return out
}

// appendFailureCapability answers with one property: the first from p on of
// those that name the maker and the firmware.
func (e *Engine) appendFailureCapability(out []byte, p tpm2.PT, count uint32) []byte {
	more := byte(0)
	data := tpm2.CapabilityData{Cap: tpm2.CapTPMProperties}
	if count > 0 {
		for _, f := range e.identityProperties() {
			switch {
			case f.Property < p:
			case len(data.Properties) == 0:
				data.Properties = append(data.Properties, f)
			default:
				more = 1
			}
		}
	}
	enc := tpm2.NewEncoder(append(out, more))
	data.Walk(&enc)
	return enc.Output()
}

// identityProperties say who made the TPM: the values of libtpms, which guests
// know.
func (e *Engine) identityProperties() []tpm2.TaggedProperty {
	return []tpm2.TaggedProperty{
		{Property: tpm2.PTManufacturer, Value: 0x49424D00},  // "IBM"
		{Property: tpm2.PTVendorString1, Value: 0x53572020}, // "SW  "
		{Property: tpm2.PTVendorString2, Value: 0x2054504D}, // " TPM"
		{Property: tpm2.PTVendorString3, Value: 0},
		{Property: tpm2.PTVendorString4, Value: 0},
		{Property: tpm2.PTVendorTPMType, Value: 1},
		{Property: tpm2.PTFirmwareVersion1, Value: uint32(e.state.firmware >> 32)},
		{Property: tpm2.PTFirmwareVersion2, Value: uint32(e.state.firmware)},
	}
}

// FirmwareVersion is what a new TPM shows and its attestations carry: that of
// libtpms 0.9.2's default build, a date and a time.
const FirmwareVersion = 0x20191023_00163636
