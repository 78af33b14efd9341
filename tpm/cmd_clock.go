package tpm

import "github.com/ashlar-cloud/ashlar/tpm2"

// clockCommands are those of Part 3, 29, but for the attestation of time.
var clockCommands = []command{
	define(command{cc: tpm2.CCReadClock, readOnly: true}, (*Engine).readClock),
}

type readClockOut struct{ currentTime tpm2.TimeInfo }

// Walk visits the parameters.
func (p *readClockOut) Walk(c *tpm2.Codec) { c.Param(&p.currentTime) }

// readClock is TPM2_ReadClock (Part 3, 29.1).
func (e *Engine) readClock(_ *call, _ *none, out *readClockOut) tpm2.RC {
	out.currentTime = tpm2.TimeInfo{Time: e.state.timing.Time, ClockInfo: e.state.timing.ClockInfo()}
	return tpm2.RCSuccess
}
