package tpm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash"

	"github.com/ashlar-cloud/ashlar/measurement/eventlog"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// register is one PCR of one bank.
type register struct {
	alg   tpm2.AlgID
	index int
}

// selected lists the registers of a selection in the order in which a quote
// hashes them: bank by bank as listed, PCRs ascending (Part 3, 18.4).
func selected(list tpm2.PCRSelectionList) []register {
	var all []register
	for i := range list {
		for n := range numPCRs {
			if list[i].Has(n) {
				all = append(all, register{list[i].Hash, n})
			}
		}
	}
	return all
}

// get gives a value, nil if it is not there.
func value(p eventlog.PCRs, r register) []byte { return p[r.alg][r.index] }

// digest hashes the values of the selection into h. It gives the first
// register that has no value.
func quoteDigest(p eventlog.PCRs, h hash.Hash, order []register) (sum []byte, missing *register) {
	for i := range order {
		v := value(p, order[i])
		if v == nil {
			return nil, &order[i]
		}
		h.Write(v)
	}
	return h.Sum(nil), nil
}

// The layout of the PCR files that tpm2-tools 4 to 5 write beside a quote
// (tpm2_quote --pcrs_format serialized): C structures in little-endian order,
//
//	TPML_PCR_SELECTION: u32 count, 16 × {u16 hash, u8 size, u8 select[4], u8 pad}
//	u32 count of lists, each a TPML_DIGEST: u32 count, 8 × {u16 size, u8 digest[64]}
const (
	toolsSelections = 16
	toolsSelection  = 8
	toolsHeader     = 4 + toolsSelections*toolsSelection
	toolsDigest     = 2 + 64
	toolsList       = 4 + 8*toolsDigest
	maxToolsLists   = 16 * numPCRs / 8
)

// isToolsPCRs tells a serialized file by its exact size.
func isToolsPCRs(b []byte) bool {
	if len(b) < toolsHeader+4 || (len(b)-toolsHeader-4)%toolsList != 0 {
		return false
	}
	lists := binary.LittleEndian.Uint32(b[toolsHeader:])
	n := binary.LittleEndian.Uint32(b)
	return n <= toolsSelections && lists <= maxToolsLists && int(lists)*toolsList == len(b)-toolsHeader-4
}

func parseToolsPCRs(b []byte) (eventlog.PCRs, error) {
	if !isToolsPCRs(b) {
		return nil, errors.New("not a PCR file of tpm2-tools")
	}
	var sel tpm2.PCRSelectionList
	for i := range int(binary.LittleEndian.Uint32(b)) {
		s := b[4+i*toolsSelection:]
		one := tpm2.PCRSelection{Hash: tpm2.AlgID(binary.LittleEndian.Uint16(s))}
		if one.Size = s[2]; one.Size > 4 {
			return nil, errors.New("the PCR file's selection is malformed")
		}
		copy(one.Bits[:], s[3:3+int(one.Size)])
		sel = append(sel, one)
	}
	var digests [][]byte
	for lists := b[toolsHeader+4:]; len(lists) > 0; lists = lists[toolsList:] {
		n := binary.LittleEndian.Uint32(lists)
		if n > 8 {
			return nil, errors.New("the PCR file's list of digests is malformed")
		}
		for i := range int(n) {
			d := lists[4+i*toolsDigest:]
			size := int(binary.LittleEndian.Uint16(d))
			if size > 64 {
				return nil, errors.New("the PCR file has a digest that is too long")
			}
			digests = append(digests, d[2:2+size])
		}
	}
	order := selected(sel)
	if len(order) != len(digests) {
		return nil, fmt.Errorf("the PCR file selects %d PCRs and has %d values", len(order), len(digests))
	}
	p := eventlog.PCRs{}
	for i, r := range order {
		if err := p.Set(r.alg, r.index, digests[i]); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// parseRawPCRs reads PCR values one after another in the quote's order, as
// tpm2_quote --pcrs_format values and tpm2_pcrread -o write them.
func parseRawPCRs(b []byte, order []register) (eventlog.PCRs, error) {
	p := eventlog.PCRs{}
	for _, r := range order {
		n := r.alg.DigestSize()
		if n == 0 || len(b) < n {
			return nil, errors.New("the PCR values are fewer than the quote selects")
		}
		if err := p.Set(r.alg, r.index, b[:n]); err != nil {
			return nil, err
		}
		b = b[n:]
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("the PCR values have %d bytes more than the quote selects", len(b))
	}
	return p, nil
}
