package sevsnp

import (
	"slices"
	"strings"
	"testing"

	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/verifier/internal/forge"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// TestMigrationAgent appraises a guest with its agent, and refuses every agent
// that is not the guest's, or not to be trusted.
func TestMigrationAgent(t *testing.T) {
	known := map[string][]string{"measurement": {strings.Repeat("6d", 48)}, "agent_measurement": {strings.Repeat("61", 48)}}
	for name, c := range map[string]struct {
		alter  func(guest, agent *soft)
		oneOf  map[string][]string
		reason scheme.Reason
		status rats.Tier
		text   string
	}{
		"good":           {nil, known, "", rats.TierAffirming, ""},
		"not named":      {nil, map[string][]string{"measurement": known["measurement"]}, scheme.ReasonMigration, rats.TierContraindicated, "agent_measurement"},
		"another agent":  {func(_, agent *soft) { agent.raw[0x90]++ }, known, scheme.ReasonReference, rats.TierContraindicated, "agent_measurement is 62"},
		"old answer":     {func(_, agent *soft) { agent.raw[0x50]++ }, known, "", rats.TierAffirming, ""},
		"other identity": {func(_, agent *soft) { agent.raw[0x140]++ }, known, scheme.ReasonMalformed, rats.TierContraindicated, "neither is of the other's"},
		"other key":      {func(_, agent *soft) { agent.key = newKey(agent.t) }, known, scheme.ReasonSignature, rats.TierContraindicated, "another key than the guest's"},
		"other chip":     {func(_, agent *soft) { agent.raw[0x1a0]++ }, known, scheme.ReasonCertificate, rats.TierContraindicated, "another chip"},
		"other TCB":      {func(_, agent *soft) { agent.raw[0x180]++ }, known, scheme.ReasonCertificate, rats.TierContraindicated, "another chip or TCB"},
		"debug":          {func(_, agent *soft) { agent.raw[0xa] |= 8 }, known, scheme.ReasonReference, rats.TierContraindicated, "read and change it"},
		"agent of it":    {func(_, agent *soft) { agent.raw[0x161] = 9 }, known, scheme.ReasonReference, rats.TierContraindicated, "agent of its own"},
		"no agent":       {func(guest, _ *soft) { copy(guest.raw[0x160:], strings.Repeat("\xff", 32)) }, known, scheme.ReasonMalformed, rats.TierContraindicated, "neither is of the other's"},
	} {
		for _, first := range []string{"guest", "agent"} {
			t.Run(name+", first the "+first, func(t *testing.T) {
				s := newSoft(t, "Milan", false, 3)
				agent := *s
				agent.raw = append([]byte(nil), s.raw...)
				copy(agent.raw[0x90:], strings.Repeat("a", 48))
				copy(agent.raw[0x140:], strings.Repeat("A", 32))
				copy(s.raw[0x160:], strings.Repeat("A", 32))
				s.raw[0xa] |= 4 // the policy allows it
				if c.alter != nil {
					c.alter(s, &agent)
				}
				in := s.input()
				in.References = values(t, c.oneOf)
				guests := []scheme.File{file(s.report()), file(agent.report())}
				if first == "agent" {
					guests[0], guests[1] = guests[1], guests[0]
				}
				in.Files = append(guests, in.Files[1:]...)
				r := appraise(t, in)
				why := strings.Join(append(r.Why(), r.NotAffirmed()...), " ")
				if r.Reason != c.reason || r.Status != c.status || !strings.Contains(why, c.text) {
					t.Errorf("%s (%s), %s: %s", r.Verdict, r.Reason, r.Status, why)
				}
			})
		}
	}
	s := newSoft(t, "Milan", false, 3)
	in := s.input()
	in.Files = append(in.Files, in.Files[0], in.Files[0])
	wantRefused(t, appraise(t, in), scheme.ReasonMalformed, "third report")
}

// TestEveryBitOfAgent flips bits of an agent's report.
func TestEveryBitOfAgent(t *testing.T) {
	s := newSoft(t, "Milan", false, 3)
	agent := *s
	agent.raw = append([]byte(nil), s.raw...)
	copy(s.raw[0x160:], s.raw[0x140:0x160])
	in := s.input()
	in.Chains = scheme.NewChains(4)
	in.References = values(t, map[string][]string{"measurement": {strings.Repeat("6d", 48)}, "agent_measurement": {strings.Repeat("6d", 48)}})
	b := agent.report()
	copy(s.raw[0x140:], strings.Repeat("g", 32))
	in.Files[0] = file(s.report())
	in.Files = append(in.Files, file(b))
	wantAffirmed(t, appraise(t, in))
	forge.Flips(t, b, 0, ReportSize, func(b []byte) *scheme.Result {
		again := *in
		again.Files = append(slices.Clone(in.Files[:len(in.Files)-1]), file(b))
		return appraise(t, &again)
	})
}
