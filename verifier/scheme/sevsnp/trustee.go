package sevsnp

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
)

// trusteeContainer names Trustee's form in facts.
const trusteeContainer = "KBS snp evidence JSON (virtee sev serde); binary report rebuilt field by field, VCEK inside cert_chain"

// trusteeTCB is a TCB as Trustee writes it.
type trusteeTCB struct {
	FMC        *uint8 `json:"fmc"`
	BootLoader uint8  `json:"bootloader"`
	TEE        uint8  `json:"tee"`
	SNP        uint8  `json:"snp"`
	Microcode  uint8  `json:"microcode"`
}

func (t *trusteeTCB) put(b []byte) {
	if t.FMC != nil {
		copy(b, []byte{*t.FMC, t.BootLoader, t.TEE, t.SNP})
	} else {
		b[0], b[1], b[6] = t.BootLoader, t.TEE, t.SNP
	}
	b[7] = t.Microcode
}

// octets are bytes as Trustee writes them: a list of numbers.
type octets []uint8

// trusteeVersion is a version of firmware.
type trusteeVersion struct {
	Major uint8 `json:"major"`
	Minor uint8 `json:"minor"`
	Build uint8 `json:"build"`
}

// trusteeReport is a report as Trustee writes it, that is as the crate sev of
// virtee does.
type trusteeReport struct {
	Version     uint32         `json:"version"`
	GuestSVN    uint32         `json:"guest_svn"`
	Policy      uint64         `json:"policy"`
	FamilyID    octets         `json:"family_id"`
	ImageID     octets         `json:"image_id"`
	VMPL        uint32         `json:"vmpl"`
	SigAlgo     uint32         `json:"sig_algo"`
	CurrentTCB  trusteeTCB     `json:"current_tcb"`
	PlatInfo    uint64         `json:"plat_info"`
	KeyInfo     uint32         `json:"key_info"`
	ReportData  octets         `json:"report_data"`
	Measurement octets         `json:"measurement"`
	HostData    octets         `json:"host_data"`
	IDKey       octets         `json:"id_key_digest"`
	AuthorKey   octets         `json:"author_key_digest"`
	ReportID    octets         `json:"report_id"`
	ReportIDMA  octets         `json:"report_id_ma"`
	ReportedTCB trusteeTCB     `json:"reported_tcb"`
	Family      uint8          `json:"cpuid_fam_id"`
	Model       uint8          `json:"cpuid_mod_id"`
	Step        uint8          `json:"cpuid_step"`
	ChipID      octets         `json:"chip_id"`
	Committed   trusteeTCB     `json:"committed_tcb"`
	Current     trusteeVersion `json:"current"`
	CommittedFW trusteeVersion `json:"committed"`
	LaunchTCB   trusteeTCB     `json:"launch_tcb"`
	LaunchMit   uint64         `json:"launch_mit_vector"`
	CurrentMit  uint64         `json:"current_mit_vector"`
	Signature   struct {
		R octets `json:"r"`
		S octets `json:"s"`
	} `json:"signature"`
}

// binary puts the fields where the signed report has them. A field that the form
// does not carry is zero there, as it was when the report was signed, or the
// signature does not hold.
func (t *trusteeReport) binary() ([]byte, error) {
	b := make([]byte, ReportSize)
	le := binary.LittleEndian
	le.PutUint32(b, t.Version)
	le.PutUint32(b[4:], t.GuestSVN)
	le.PutUint64(b[8:], t.Policy)
	le.PutUint32(b[0x30:], t.VMPL)
	le.PutUint32(b[0x34:], t.SigAlgo)
	le.PutUint64(b[0x40:], t.PlatInfo)
	le.PutUint32(b[0x48:], t.KeyInfo)
	for _, f := range []struct {
		at, size int
		from     octets
	}{{0x10, 16, t.FamilyID}, {0x20, 16, t.ImageID}, {0x50, 64, t.ReportData}, {0x90, 48, t.Measurement}, {0xc0, 32, t.HostData},
		{0xe0, 48, t.IDKey}, {0x110, 48, t.AuthorKey}, {0x140, 32, t.ReportID}, {0x160, 32, t.ReportIDMA}, {0x1a0, 64, t.ChipID},
		{signedSize, componentSize, t.Signature.R}, {signedSize + componentSize, componentSize, t.Signature.S}} {
		if len(f.from) != f.size {
			return nil, fmt.Errorf("a field of the report has %d bytes, not %d", len(f.from), f.size)
		}
		copy(b[f.at:], f.from)
	}
	for at, tcb := range map[int]*trusteeTCB{0x38: &t.CurrentTCB, 0x180: &t.ReportedTCB, 0x1e0: &t.Committed, 0x1f0: &t.LaunchTCB} {
		tcb.put(b[at:])
	}
	copy(b[0x188:], []byte{t.Family, t.Model, t.Step})
	copy(b[0x1e8:], []byte{t.Current.Build, t.Current.Minor, t.Current.Major, 0, t.CommittedFW.Build, t.CommittedFW.Minor, t.CommittedFW.Major})
	le.PutUint64(b[0x1f8:], t.LaunchMit)
	le.PutUint64(b[0x200:], t.CurrentMit)
	return b, nil
}

// trustee reads Trustee's evidence of SEV-SNP.
func (g *given) trustee(b []byte) error {
	var e struct {
		Report trusteeReport `json:"attestation_report"`
		Chain  []struct {
			Type json.RawMessage `json:"cert_type"`
			Data octets          `json:"data"`
		} `json:"cert_chain"`
	}
	if err := json.Unmarshal(b, &e); err != nil {
		return fmt.Errorf("it cannot be read as Trustee's evidence: %w", err)
	}
	if len(e.Chain) > maxCerts {
		return errors.New("its cert_chain is too long")
	}
	raw, err := e.Report.binary()
	if err != nil {
		return err
	}
	for _, c := range e.Chain {
		switch string(c.Type) {
		case `"VCEK"`, `"VLEK"`, `"ASK"`, `"ARK"`, `"CRL"`:
			if err := g.read(c.Data, false); err != nil {
				return fmt.Errorf("%s in its cert_chain: %w", c.Type, err)
			}
		}
	}
	return g.setReport(raw, trusteeContainer)
}
