package sevsnp

import (
	"encoding/hex"
	"fmt"
)

// reportFacts records everything that the report says.
func (a *appraisal) reportFacts() {
	r, f := a.rep, a.Facts
	f["version"], f["guest_svn"], f["vmpl"], f["sig_algo"] = r.Version, r.GuestSVN, r.VMPL, r.SignatureAlg
	f["policy"], f["platform_info"] = fmt.Sprintf("0x%x", uint64(r.Policy)), fmt.Sprintf("0x%x", r.PlatformInfo)
	for name, b := range map[string][]byte{"family_id": r.FamilyID[:], "image_id": r.ImageID[:], "report_data": r.ReportData[:],
		"measurement": r.Measurement[:], "host_data": r.HostData[:], "id_key_digest": r.IDKeyDigest[:],
		"author_key_digest": r.AuthorKeyDigest[:], "report_id": r.ReportID[:], "report_id_ma": r.ReportIDMA[:],
		"chip_id": r.ChipID[:], "current_tcb": r.CurrentTCB[:], "reported_tcb": r.ReportedTCB[:],
		"committed_tcb": r.CommittedTCB[:], "launch_tcb": r.LaunchTCB[:]} {
		f[name] = hex.EncodeToString(b)
	}
	f["signing_key"], f["author_key_en"] = signerName(r.signer()), r.KeyInfo&keyAuthor != 0
	f["mask_chip_key"] = r.KeyInfo&keyMasked != 0
	f["current_version"], f["committed_version"] = version(r.Current), version(r.Committed)
	if r.Version >= 3 {
		f["cpuid_fam_mod_step"] = []int{int(r.Family), int(r.Model), int(r.Stepping)}
		f["alias_check_complete"] = r.PlatformInfo&platformAliasCheck != 0
	}
	if r.Version >= 5 {
		f["launch_mit_vector"], f["current_mit_vector"] = fmt.Sprintf("0x%x", r.LaunchMitigations), fmt.Sprintf("0x%x", r.CurrentMitigations)
	}
	f["debug"] = r.Policy&PolicyDebug != 0
	f["abi_major"], f["abi_minor"] = uint8(r.Policy>>8), uint8(r.Policy)
	for name, bit := range map[string]Policy{"smt_allowed": PolicySMT, "migration_agent_allowed": PolicyMigrationAgent,
		"single_socket": PolicySingleSocket, "cxl_allowed": PolicyCXL, "aes_256_xts_demanded": PolicyAES256XTS,
		"rapl_disabled_demanded": PolicyRAPLDisabled, "ciphertext_hiding_demanded": PolicyCiphertextHiding,
		"page_swap_disabled": PolicyPageSwapDisabled} {
		f[name] = r.Policy&bit != 0
	}
	for name, bit := range map[string]uint64{"smt": platformSMT, "tsme": platformTSME, "ecc": platformECC,
		"rapl_disabled": platformRAPLDisabled, "ciphertext_hiding": platformCiphertextHiding, "tio": platformTIO} {
		f[name] = r.PlatformInfo&bit != 0
	}
	turin := r.likeTurin()
	for name, tcb := range map[string]TCB{"current": r.CurrentTCB, "reported": r.ReportedTCB, "committed": r.CommittedTCB, "launch": r.LaunchTCB} {
		for _, l := range tcb.levels(turin) {
			f[name+"_"+l.name] = l.value
		}
	}
	if name := r.productName(); name != "" {
		f["product"] = name
	}
}

func version(v [3]uint8) string { return fmt.Sprintf("%d.%d.%d", v[2], v[1], v[0]) }

// likeTurin tells whether the TCBs are to be read as Turin's. A report of version
// 2 does not say; its chip's identity has Turin's length or not.
func (r *Report) likeTurin() bool {
	if r.Version >= 3 {
		return r.Family >= 0x1a
	}
	return zero(r.ChipID[8:]) && !zero(r.ChipID[:8])
}
