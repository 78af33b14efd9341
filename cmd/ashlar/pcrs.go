package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ashlar-cloud/ashlar/measurement/eventlog"
	"github.com/ashlar-cloud/ashlar/tpm2"
	"github.com/ashlar-cloud/ashlar/verifier/scheme/tpm"
)

// maxPCRFile bounds a file of PCR values, or an evidence bundle that has some.
const maxPCRFile = 64 << 20

// numPCRs is the number of PCRs of a PC Client TPM.
const numPCRs = 24

// recordedPCRs reads the file of --pcrs; no name gives no values.
func recordedPCRs(cmd *cobra.Command, path string) (eventlog.PCRs, error) {
	if path == "" {
		return nil, nil
	}
	raw, err := readInput(cmd, path, maxPCRFile)
	if err != nil {
		return nil, err
	}
	pcrs, ok, err := parsePCRText(raw)
	if !ok {
		if pcrs, err = tpm.RecordedPCRs(path, raw); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(pcrs) == 0 {
		return nil, fmt.Errorf("%s has no PCR values: give what tpm2_pcrread prints, or a file of tpm2_quote or ashlar", path)
	}
	return pcrs, nil
}

// parsePCRText reads PCR values in text: as tpm2_pcrread prints them, or as
// JSON, {"sha256": {"0": "hex"}}. ok is false where raw is neither.
func parsePCRText(raw []byte) (p eventlog.PCRs, ok bool, err error) {
	var object map[string]map[string]string
	if json.Unmarshal(raw, &object) == nil && len(object) > 0 {
		p = eventlog.PCRs{}
		for bank, values := range object {
			for index, value := range values {
				if err := setPCR(p, bank, index, value); err != nil {
					return nil, true, err
				}
			}
		}
		return p, true, nil
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	if first, rest, found := strings.Cut(strings.TrimSpace(lines[0]), ":"); !found || rest != "" {
		return nil, false, nil
	} else if _, known := tpm2.ParseAlg(first); !known {
		return nil, false, nil
	}
	p = eventlog.PCRs{}
	bank := ""
	for n, line := range lines {
		index, value, found := strings.Cut(line, ":")
		switch index, value = strings.TrimSpace(index), strings.TrimSpace(value); {
		case !found:
			return nil, true, fmt.Errorf("line %d is neither a bank nor a PCR's value", n+1)
		case value == "":
			bank = index
		default:
			if err := setPCR(p, bank, index, value); err != nil {
				return nil, true, err
			}
		}
	}
	return p, true, nil
}

func setPCR(p eventlog.PCRs, bank, index, value string) error {
	alg, ok := tpm2.ParseAlg(bank)
	if !ok {
		return fmt.Errorf("%q is no bank of PCRs", bank)
	}
	n, err := strconv.Atoi(index)
	if err != nil || n < 0 || n >= numPCRs {
		return fmt.Errorf("%q is no PCR", index)
	}
	v, err := hex.DecodeString(strings.TrimPrefix(strings.ToLower(value), "0x"))
	if err != nil || alg.DigestSize() != 0 && len(v) != alg.DigestSize() {
		return fmt.Errorf("%s PCR %d: %q is no value of that bank", bank, n, value)
	}
	if p[alg] == nil {
		p[alg] = map[int][]byte{}
	}
	p[alg][n] = v
	return nil
}
