package tpm

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/ashlar-cloud/ashlar/measurement/eventlog"
	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/tpm2"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// quoteFacts records what the quotes say.
func (a *appraisal) quoteFacts() {
	first := &a.attests[0]
	a.Facts["clock"] = first.ClockInfo.Clock
	a.Facts["resetCount"] = first.ClockInfo.ResetCount
	a.Facts["restartCount"] = first.ClockInfo.RestartCount
	a.Facts["clockSafe"] = first.ClockInfo.Safe
	a.Facts["firmwareVersion"] = fmt.Sprintf("0x%x", first.FirmwareVersion)
	var order, extra, digests []string
	banks := map[string][]int{}
	for i := range a.attests {
		at := &a.attests[i]
		for _, s := range at.Quote.Select {
			name := s.Hash.String()
			order = append(order, name)
			list := []int{}
			for n := range numPCRs {
				if s.Has(n) {
					list = append(list, n)
				}
			}
			banks[name] = list
		}
		if x := hex.EncodeToString(at.ExtraData); !slices.Contains(extra, x) {
			extra = append(extra, x)
		}
		digests = append(digests, hex.EncodeToString(at.Quote.Digest))
	}
	if len(a.attests) > 1 {
		a.Facts["quotes"], a.Facts["extraData"] = len(a.attests), extra
		a.Facts["banks"], a.Facts["pcrDigests"] = order, digests
		return
	}
	a.Facts["extraData"], a.Facts["pcrDigest"] = extra[0], digests[0]
	a.Facts["banks"], a.Facts["bank_order"] = banks, order
	if text := first.ExtraData; len(text) > 0 && bytes.IndexFunc(text, func(r rune) bool { return r < 0x20 || r > 0x7e }) < 0 {
		a.Facts["nonce_ascii"] = string(text)
	}
	a.recordedFacts(a.ev.Quotes[0].PCRs)
}

func (a *appraisal) recordedFacts(p eventlog.PCRs) {
	count := map[string]int{}
	for alg, bank := range p {
		count[alg.String()] = len(bank)
		if v := bank[imaPCR]; v != nil {
			a.Facts["pcr10_"+alg.String()] = hex.EncodeToString(v)
		}
	}
	if len(count) > 0 {
		a.Facts["recorded_pcrs"] = count
	}
}

// checkQuotes examines each quote: signature, nonce, digest; and that all are
// of one boot.
func (a *appraisal) checkQuotes() {
	for i := range a.attests {
		hash := a.checkSignature(i)
		a.checkNonce(i)
		a.checkDigest(i, hash)
		was, is := a.attests[0].ClockInfo, a.attests[i].ClockInfo
		if was.ResetCount != is.ResetCount || was.RestartCount != is.RestartCount {
			a.Break(scheme.ReasonMalformed, a.name(i, "boot"), errors.New("the quotes are not of one boot: their reset counts differ"))
		}
	}
}

// checkSignature gives the algorithm that the quote's digest was made with.
func (a *appraisal) checkSignature(i int) tpm2.AlgID {
	q, label := &a.ev.Quotes[i], a.name(i, "quote signature")
	guess := bySize(len(a.attests[i].Quote.Digest))
	if len(q.Signature) == 0 {
		a.Break(scheme.ReasonSignature, label, errors.New("the quote is not signed: its signature is missing"))
		return guess
	}
	s, err := parseSignature(q.Signature, a.ak)
	if err != nil {
		a.Break(scheme.ReasonMalformed, label, err)
		return guess
	}
	a.Facts["signature"] = s.scheme()
	if a.ak == nil {
		a.Leave(scheme.ReasonNoKey, label, "the signature cannot be checked: the attestation key is not in the evidence; give it with --key")
		return s.Hash
	}
	if err := s.verify(a.ak, q.Message); err != nil {
		a.Break(scheme.ReasonSignature, label, err)
		return s.Hash
	}
	a.Hold(label, s.scheme())
	if s.Hash == tpm2.AlgSHA1 {
		a.Leave("", a.name(i, "signature strength"), "the quote is signed over SHA-1, for which collisions can be made: it does not affirm anything")
		a.Claim(rats.InstanceIdentity, rats.NoClaim)
	}
	return s.Hash
}

func bySize(n int) tpm2.AlgID {
	for _, a := range tpm2.HashAlgs() {
		if a.DigestSize() == n {
			return a
		}
	}
	return tpm2.AlgNull
}

func (a *appraisal) checkNonce(i int) {
	label, found := a.name(i, "nonce"), rats.Nonce(a.attests[i].ExtraData)
	if !a.HasNonce {
		a.Leave("", label, "whether the quote is fresh was not checked: no nonce was given")
		return
	}
	want := rats.BindKey(a.Nonce, a.ev.AttesterKey)
	if !found.Equal(want) {
		why := "the quote was not made under this nonce: it is a replay, or answers somebody else"
		if len(a.ev.AttesterKey) > 0 {
			why = "the quote was not made under this nonce and the attester's key in the evidence: it is a replay, or the key was exchanged"
		}
		a.Fail(scheme.ReasonNonce, rats.InstanceIdentity, rats.CryptoFailed,
			rats.Claim{Name: label, Expected: want.String(), Found: found.String(), Why: why})
		return
	}
	a.Hold(label, found.String())
	if len(a.Nonce) == 0 {
		a.Leave("", a.name(i, "freshness"), "the nonce is empty: any quote that was made under none answers it, however old, so it affirms nothing")
	}
}

// fresh tells whether a nonce made the Evidence for this appraisal.
func (a *appraisal) fresh() bool { return a.HasNonce && len(a.Nonce) > 0 }

// checkDigest confirms PCR values by the quote's digest: those read beside it,
// or, where some are missing, those that the logs give.
func (a *appraisal) checkDigest(i int, alg tpm2.AlgID) {
	label, q, order := a.name(i, "PCR digest"), &a.ev.Quotes[i], a.order[i]
	want := a.attests[i].Quote.Digest
	if alg.DigestSize() == 0 || len(order) == 0 {
		a.Leave(scheme.ReasonPCRMissing, label, "the quote selects no PCR, or its digest is of an algorithm that is not supported")
		return
	}
	seen := map[register]bool{}
	for _, r := range order {
		if seen[r] {
			a.Break(scheme.ReasonMalformed, label, fmt.Errorf("the quote selects PCR %d of bank %v twice", r.index, r.alg))
			return
		}
		seen[r] = true
		if r.alg.DigestSize() == 0 {
			a.Leave(scheme.ReasonAlgorithm, label, fmt.Sprintf("the quote covers the bank %v, which is not supported", r.alg))
			return
		}
	}
	sum, missing := quoteDigest(q.PCRs, alg.New(), order)
	if missing != nil {
		a.solveDigest(i, alg)
		return
	}
	if !bytes.Equal(sum, want) {
		delete(a.Facts, "pcrDigest_matches")
		a.Fail(scheme.ReasonPCRDigest, rats.Executables, rats.CryptoFailed, rats.Claim{Name: label,
			Expected: hex.EncodeToString(want), Found: hex.EncodeToString(sum),
			Why: "the PCR values are not those that were quoted: their digest differs"})
		return
	}
	a.confirm(i, alg, q.PCRs)
}

func (a *appraisal) confirm(i int, alg tpm2.AlgID, values eventlog.PCRs) {
	a.Hold(a.name(i, "PCR digest"), alg.String()+":"+hex.EncodeToString(a.attests[i].Quote.Digest))
	a.Facts["pcrDigest_matches"] = true
	algs, _ := a.Facts["pcr_digest_alg"].([]string)
	if !slices.Contains(algs, alg.String()) {
		a.Facts["pcr_digest_alg"] = append(algs, alg.String())
	}
	for _, r := range a.order[i] {
		v := value(values, r)
		if old := value(a.PCRs, r); old != nil && !bytes.Equal(old, v) && r.index != imaPCR {
			a.Break(scheme.ReasonPCRDigest, a.name(i, "PCR values"),
				fmt.Errorf("two quotes give different values for PCR %d of bank %v", r.index, r.alg))
			continue
		}
		if err := a.PCRs.Set(r.alg, r.index, v); err != nil {
			a.Break(scheme.ReasonMalformed, a.name(i, "PCR values"), err)
		}
	}
}

// initial is a PCR's value as the event log leaves it, or after Startup where
// there is no log of its bank (PC Client PTP, 4.6.2).
func (a *appraisal) initial(r register) []byte {
	for i := range a.banks {
		if a.banks[i].Alg == r.alg {
			v, _ := a.banks[i].PCR(r.index)
			return v
		}
	}
	v := make([]byte, r.alg.DigestSize())
	if r.index >= 17 && r.index <= 22 {
		for i := range v {
			v[i] = 0xff
		}
	}
	return v
}

// maxTries bounds how many sets of PCR values solveDigest hashes for all quotes
// together: some µs each.
const maxTries = 1 << 18

// solveDigest finds PCR values that give the quoted digest: the event log's, and
// for PCR 10 those after each prefix of the IMA log, as it grows while evidence
// is collected.
func (a *appraisal) solveDigest(i int, alg tpm2.AlgID) {
	label, want := a.name(i, "PCR digest"), a.attests[i].Quote.Digest
	if a.log == nil {
		a.Leave(scheme.ReasonPCRMissing, label, "the PCR values that were quoted are not in the evidence, and no event log tells them")
		return
	}
	values := eventlog.PCRs{}
	var banks []tpm2.AlgID // with PCR 10
	for _, r := range a.order[i] {
		v := value(a.ev.Quotes[i].PCRs, r)
		if v == nil {
			v = a.initial(r)
		}
		if r.index == imaPCR && !slices.Contains(banks, r.alg) {
			banks = append(banks, r.alg)
		}
		if err := values.Set(r.alg, r.index, v); err != nil {
			a.Break(scheme.ReasonMalformed, label, err)
			return
		}
	}
	matches := func() (found, goOn bool) {
		if a.tries++; a.tries > maxTries {
			return false, false
		}
		sum, _ := quoteDigest(values, alg.New(), a.order[i])
		return bytes.Equal(sum, want), true
	}
	found, _ := matches()
	if !found && a.ima != nil && len(banks) > 0 {
		_, found = a.ima.search(banks, a.initial, func(bank tpm2.AlgID, v []byte) { values[bank][imaPCR] = v }, matches)
	}
	if !found {
		why := "the event log does not explain what was quoted: no PCR values were given, and those that it replays to have another digest"
		if a.ima != nil {
			why = fmt.Sprintf("the logs do not explain what was quoted: the event log with none of the %d prefixes of the IMA log gives the quoted digest", a.ima.len())
		}
		if a.tries > maxTries {
			why = "the logs are too long to find out from them which PCR values were quoted: give the PCR values (--pcrs)"
		}
		a.Fail(scheme.ReasonLog, rats.Executables, rats.CryptoFailed, rats.Claim{Name: label, Expected: hex.EncodeToString(want), Why: why})
		return
	}
	a.confirm(i, alg, values)
}
