package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/ashlar-cloud/ashlar/identity"
	"github.com/ashlar-cloud/ashlar/tpm"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// A device is a TPM: it takes a command and gives its response.
type device func(cmd []byte) []byte

// engineDevice is an engine whose state nobody keeps before all is done.
func engineDevice(e *tpm.Engine) device {
	return func(cmd []byte) []byte {
		rsp, commit := e.Execute(tpm.Request{}, cmd, nil)
		if commit.Pending() {
			commit.Done()
		}
		return rsp
	}
}

var errResponse = errors.New("the TPM's response makes no sense")

// run sends a command, with an empty password for the first handle where auth is
// set, and gives what follows the response's header.
func (d device) run(cc tpm2.CC, handles []tpm2.Handle, auth bool, params ...tpm2.Walker) ([]byte, error) {
	tag := uint16(tpm2.STNoSessions)
	if auth {
		tag = uint16(tpm2.STSessions)
	}
	cmd := binary.BigEndian.AppendUint16(nil, tag)
	cmd = binary.BigEndian.AppendUint32(cmd, 0)
	cmd = binary.BigEndian.AppendUint32(cmd, uint32(cc))
	for _, h := range handles {
		cmd = binary.BigEndian.AppendUint32(cmd, uint32(h))
	}
	if auth {
		cmd = binary.BigEndian.AppendUint32(cmd, 9) // the session, no nonce, no attributes, no password
		cmd = binary.BigEndian.AppendUint32(cmd, uint32(tpm2.RSPW))
		cmd = append(cmd, 0, 0, 0, 0, 0)
	}
	for _, p := range params {
		cmd = append(cmd, tpm2.Marshal(p)...)
	}
	binary.BigEndian.PutUint32(cmd[2:], uint32(len(cmd)))
	rsp := d(cmd)
	if len(rsp) < 10 {
		return nil, errResponse
	}
	if rc := tpm2.RC(binary.BigEndian.Uint32(rsp[6:])); rc != tpm2.RCSuccess {
		return nil, fmt.Errorf("TPM2_%v failed: 0x%x (%w)", cc, uint32(rc), rc)
	}
	return rsp[10:], nil
}

// startup sends TPM2_Startup(CLEAR).
func (d device) startup() error { return d.power(tpm2.CCStartup) }

// shutdown sends TPM2_Shutdown(CLEAR).
func (d device) shutdown() error { return d.power(tpm2.CCShutdown) }

func (d device) power(cc tpm2.CC) error {
	how := tpm2.UINT16(tpm2.SUClear)
	_, err := d.run(cc, nil, false, &how)
	return err
}

// provision makes a key, makes it persistent, and gives its public area.
func (d device) provision(key *identity.Provision) (*tpm2.Public, error) {
	rsp, err := d.run(tpm2.CCCreatePrimary, []tpm2.Handle{key.Hierarchy}, true,
		&tpm2.SensitiveCreate{}, &tpm2.SizedPublic{Public: key.Template}, &tpm2.Data{}, &tpm2.PCRSelectionList{})
	if err != nil {
		return nil, err
	}
	c := tpm2.NewDecoder(rsp)
	var handle tpm2.Handle
	var size tpm2.UINT32
	var public tpm2.SizedPublic
	handle.Walk(&c)
	size.Walk(&c)
	public.Walk(&c)
	if rc := c.RC(); rc != tpm2.RCSuccess {
		return nil, errResponse
	}
	made := public.Clone()
	owner := tpm2.RHOwner
	if _, err := d.run(tpm2.CCEvictControl, []tpm2.Handle{owner, handle}, true, &key.Handle); err != nil {
		return nil, err
	}
	_, err = d.run(tpm2.CCFlushContext, nil, false, &handle)
	return &made, err
}

// certAttributes are those of an NV Index that the maker of a TPM fills, and that
// everybody may read.
const certAttributes = tpm2.NVPlatformCreate | tpm2.NVAuthRead | tpm2.NVOwnerRead | tpm2.NVPPRead |
	tpm2.NVPPWrite | tpm2.NVNoDA | tpm2.NVWriteDefine

// maxNVWrite is the most bytes of one TPM2_NV_Write that every TPM takes.
const maxNVWrite = 1024

// store defines an NV Index, fills it, and locks it against writing.
func (d device) store(index tpm2.Handle, data []byte, lock bool) error {
	public := tpm2.NVPublic{Index: index, NameAlg: tpm2.AlgSHA256, Attributes: certAttributes, DataSize: uint16(len(data))}
	if len(data) > tpm2.MaxNVIndexSize {
		return fmt.Errorf("NV Index 0x%x can hold %d bytes, not %d", uint32(index), tpm2.MaxNVIndexSize, len(data))
	}
	if _, err := d.run(tpm2.CCNVDefineSpace, []tpm2.Handle{tpm2.RHPlatform}, true,
		&tpm2.Digest{}, &tpm2.SizedNVPublic{NVPublic: public}); err != nil {
		return fmt.Errorf("NV Index 0x%x cannot be defined: %w", uint32(index), err)
	}
	both := []tpm2.Handle{tpm2.RHPlatform, index}
	for off := 0; off < len(data); off += maxNVWrite {
		piece, at := tpm2.MaxBuffer(data[off:min(off+maxNVWrite, len(data))]), tpm2.UINT16(off)
		if _, err := d.run(tpm2.CCNVWrite, both, true, &piece, &at); err != nil {
			return fmt.Errorf("NV Index 0x%x cannot be written: %w", uint32(index), err)
		}
	}
	if !lock {
		return nil
	}
	if _, err := d.run(tpm2.CCNVWriteLock, both, true); err != nil {
		return fmt.Errorf("NV Index 0x%x cannot be locked: %w", uint32(index), err)
	}
	return nil
}

// capability asks for what the TPM has of one kind, from a property on.
func (d device) capability(what tpm2.Cap, first, count uint32) (*tpm2.CapabilityData, error) {
	kind, from, most := tpm2.UINT32(what), tpm2.UINT32(first), tpm2.UINT32(count)
	rsp, err := d.run(tpm2.CCGetCapability, nil, false, &kind, &from, &most)
	if err != nil {
		return nil, err
	}
	c := tpm2.NewDecoder(rsp)
	var more tpm2.YesNo
	var data tpm2.CapabilityData
	more.Walk(&c)
	data.Walk(&c)
	if rc := c.RC(); rc != tpm2.RCSuccess {
		return nil, errResponse
	}
	return &data, nil
}

// banks lists the PCR banks that there are, active or not.
func (d device) banks() (list []tpm2.AlgID, err error) {
	data, err := d.capability(tpm2.CapPCRs, 0, 64)
	if err != nil {
		return nil, err
	}
	for _, s := range data.PCRs {
		list = append(list, s.Hash)
	}
	return list, nil
}

// manufacturer is the TPM's maker, in letters.
func (d device) manufacturer() (string, error) {
	data, err := d.capability(tpm2.CapTPMProperties, uint32(tpm2.PTManufacturer), 1)
	if err != nil {
		return "", err
	}
	if len(data.Properties) != 1 {
		return "", errResponse
	}
	b := binary.BigEndian.AppendUint32(nil, data.Properties[0].Value)
	return string(bytes.TrimRight(b, "\x00")), nil
}

// allocate makes the banks that are wanted active from the next start on, and no
// others.
func (d device) allocate(wanted, all []tpm2.AlgID) error {
	var list tpm2.PCRSelectionList
	add := func(bank tpm2.AlgID, bits byte) {
		list = append(list, tpm2.PCRSelection{Hash: bank,
			PCRSelect: tpm2.PCRSelect{Size: tpm2.PCRSelectSize, Bits: [4]byte{bits, bits, bits}}})
	}
	for _, bank := range wanted {
		add(bank, 0xFF)
	}
	for _, bank := range all {
		if !slices.Contains(wanted, bank) {
			add(bank, 0)
		}
	}
	rsp, err := d.run(tpm2.CCPCRAllocate, []tpm2.Handle{tpm2.RHPlatform}, true, &list)
	if err == nil && (len(rsp) < 5 || rsp[4] == 0) { // allocationSuccess, after the parameters' size
		err = errors.New("the TPM has no room for these PCR banks")
	}
	return err
}
