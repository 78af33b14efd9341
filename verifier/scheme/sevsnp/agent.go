package sevsnp

import (
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// parseReports decodes the guest's report and, where there are two, that of its
// migration agent: the one that the other names.
func parseReports(raw [][]byte) (guest, agent *Report, err error) {
	if guest, err = ParseReport(raw[0]); err != nil || len(raw) == 1 {
		return guest, nil, err
	}
	if agent, err = ParseReport(raw[1]); err != nil {
		return nil, nil, err
	}
	if agent.withAgent() && agent.ReportIDMA == guest.ReportID {
		guest, agent = agent, guest
	}
	if !guest.withAgent() || guest.ReportIDMA != agent.ReportID {
		return nil, nil, errors.New("there are two reports, and neither is of the other's migration agent")
	}
	return guest, agent, nil
}

// withAgent tells whether a migration agent is associated with the guest: else
// its identity is all ones (AMD 56860, table 23).
func (r *Report) withAgent() bool {
	for _, b := range r.ReportIDMA {
		if b != 0xff {
			return true
		}
	}
	return false
}

func (a *appraisal) withAgent() bool { return a.rep.withAgent() }

// checkAgent examines the migration agent's report, if it is there: signed with
// the guest's key, so by the same chip at the same TCB; not debuggable; with no
// agent of its own. The guest's report is under the nonce and names the agent,
// which is the same as long as it runs: its report may be older.
func (a *appraisal) checkAgent() {
	const name = "migration agent"
	m := a.agent
	if m == nil {
		return
	}
	refuse := func(reason scheme.Reason, cat rats.Category, value rats.Value, why string) {
		a.Fail(reason, cat, value, rats.Claim{Name: name, Found: hex.EncodeToString(m.ReportID[:]), Why: "the migration agent's report " + why})
	}
	switch {
	case m.SignatureAlg != algP384 || m.signer() != a.rep.signer() || !m.verify(a.path.key):
		refuse(scheme.ReasonSignature, rats.InstanceIdentity, rats.CryptoFailed, "is altered, or signed with another key than the guest's")
		return
	case m.ChipID != a.rep.ChipID || m.ReportedTCB != a.rep.ReportedTCB:
		refuse(scheme.ReasonCertificate, rats.Hardware, rats.HardwareUnknown, "is of another chip or TCB than the guest's")
		return
	case m.Policy&PolicyDebug != 0:
		refuse(scheme.ReasonReference, rats.Configuration, rats.ConfigUnsupported, "says that its host can read and change it: so can it, then, the guest")
		return
	case m.withAgent():
		refuse(scheme.ReasonReference, rats.Configuration, rats.ConfigUnsupported, "says that it has an agent of its own, which no agent may have")
		return
	}
	a.Facts["agent_measurement"], a.Facts["agent_policy"] = hex.EncodeToString(m.Measurement[:]), fmt.Sprintf("0x%x", uint64(m.Policy))
	a.Facts["agent_guest_svn"], a.Facts["agent_host_data"] = m.GuestSVN, hex.EncodeToString(m.HostData[:])
	a.Facts["agent_id_key_digest"] = hex.EncodeToString(m.IDKeyDigest[:])
	a.Hold(name, "its report is of this chip, measurement "+hex.EncodeToString(m.Measurement[:]))
}
