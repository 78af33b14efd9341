package tpm2

// PCRSelect is a TPMS_PCR_SELECT (Part 2, 10.6.1): a bitmap of PCRs, least
// significant bit of the first byte first.
type PCRSelect struct {
	Size uint8 // bytes in use, 3 in this implementation; 4 at most
	Bits [maxPCRSelectStored]byte
}

// Walk visits the bitmap; another length than a TPM of 24 PCRs has is RCValue.
func (s *PCRSelect) Walk(c *Codec) {
	c.U8(&s.Size)
	limit := uint8(maxPCRSelectStored)
	if c.impl != nil {
		limit = PCRSelectSize
	}
	if s.Size < minPCRSelect && (c.impl != nil || s.Size == 0) || s.Size > limit {
		c.Fail(RCValue)
	}
	if c.rc != RCSuccess {
		return
	}
	b := s.Bits[:s.Size]
	c.Raw(&b, int(s.Size))
	copy(s.Bits[:], b)
}

// Has reports whether PCR n is selected.
func (s *PCRSelect) Has(n int) bool {
	return n >= 0 && n < int(s.Size)*8 && s.Bits[n/8]&(1<<(n%8)) != 0
}

// Set selects PCR n, which must be below 24.
func (s *PCRSelect) Set(n int) {
	if s.Size < PCRSelectSize {
		s.Size = PCRSelectSize
	}
	s.Bits[n/8] |= 1 << (n % 8)
}

// Clear takes PCR n out of the selection.
func (s *PCRSelect) Clear(n int) { s.Bits[n/8] &^= 1 << (n % 8) }

// PCRSelection is a TPMS_PCR_SELECTION (Part 2, 10.6.2): PCRs of one bank.
type PCRSelection struct {
	Hash AlgID
	PCRSelect
}

// Walk visits the selection.
func (s *PCRSelection) Walk(c *Codec) {
	c.HashAlg(&s.Hash, false)
	s.PCRSelect.Walk(c)
}

// PCRSelectionList is a TPML_PCR_SELECTION (Part 2, 10.9.7), at most one entry
// per implemented hash algorithm.
type PCRSelectionList []PCRSelection

// Walk visits the selections.
func (l *PCRSelectionList) Walk(c *Codec) {
	List[PCRSelection](c, (*[]PCRSelection)(l), c.Accepts().MaxHashes)
}

// HA is a TPMT_HA (Part 2, 10.3.2): a hash algorithm and its digest.
type HA struct {
	Hash   AlgID
	Digest []byte
}

// Walk visits the pair.
func (h *HA) Walk(c *Codec) {
	c.HashAlg(&h.Hash, false)
	c.Raw(&h.Digest, h.Hash.DigestSize())
}

// DigestValues is a TPML_DIGEST_VALUES (Part 2, 10.9.5).
type DigestValues []HA

// Walk visits the digests.
func (l *DigestValues) Walk(c *Codec) { List[HA](c, (*[]HA)(l), c.Accepts().MaxHashes) }
