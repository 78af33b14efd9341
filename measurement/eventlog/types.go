package eventlog

import "fmt"

// EventType is a TCG_PCR_EVENT.eventType (PFP, section 10.4.1).
type EventType uint32

// Event types (PFP, tables 27 and 28).
const (
	PrebootCert         EventType = 0x00
	PostCode            EventType = 0x01
	Unused              EventType = 0x02
	NoAction            EventType = 0x03
	Separator           EventType = 0x04
	Action              EventType = 0x05
	EventTag            EventType = 0x06
	SCRTMContents       EventType = 0x07
	SCRTMVersion        EventType = 0x08
	CPUMicrocode        EventType = 0x09
	PlatformConfigFlags EventType = 0x0A
	TableOfDevices      EventType = 0x0B
	CompactHash         EventType = 0x0C
	IPL                 EventType = 0x0D
	IPLPartitionData    EventType = 0x0E
	NonhostCode         EventType = 0x0F
	NonhostConfig       EventType = 0x10
	NonhostInfo         EventType = 0x11
	OmitBootDevice      EventType = 0x12
	PostCode2           EventType = 0x13

	EFIVariableDriverConfig    EventType = 0x80000001
	EFIVariableBoot            EventType = 0x80000002
	EFIBootServicesApplication EventType = 0x80000003
	EFIBootServicesDriver      EventType = 0x80000004
	EFIRuntimeServicesDriver   EventType = 0x80000005
	EFIGPTEvent                EventType = 0x80000006
	EFIAction                  EventType = 0x80000007
	EFIPlatformFirmwareBlob    EventType = 0x80000008
	EFIHandoffTables           EventType = 0x80000009
	EFIPlatformFirmwareBlob2   EventType = 0x8000000A
	EFIHandoffTables2          EventType = 0x8000000B
	EFIVariableBoot2           EventType = 0x8000000C
	EFIGPTEvent2               EventType = 0x8000000D
	EFIHCRTMEvent              EventType = 0x80000010
	EFIVariableAuthority       EventType = 0x800000E0
	EFISPDMFirmwareBlob        EventType = 0x800000E1
	EFISPDMFirmwareConfig      EventType = 0x800000E2
	EFISPDMDevicePolicy        EventType = 0x800000E3
	EFISPDMDeviceAuthority     EventType = 0x800000E4
)

var eventTypeNames = map[EventType]string{
	PrebootCert: "EV_PREBOOT_CERT", PostCode: "EV_POST_CODE", Unused: "EV_UNUSED",
	NoAction: "EV_NO_ACTION", Separator: "EV_SEPARATOR", Action: "EV_ACTION",
	EventTag: "EV_EVENT_TAG", SCRTMContents: "EV_S_CRTM_CONTENTS",
	SCRTMVersion: "EV_S_CRTM_VERSION", CPUMicrocode: "EV_CPU_MICROCODE",
	PlatformConfigFlags: "EV_PLATFORM_CONFIG_FLAGS", TableOfDevices: "EV_TABLE_OF_DEVICES",
	CompactHash: "EV_COMPACT_HASH", IPL: "EV_IPL", IPLPartitionData: "EV_IPL_PARTITION_DATA",
	NonhostCode: "EV_NONHOST_CODE", NonhostConfig: "EV_NONHOST_CONFIG",
	NonhostInfo: "EV_NONHOST_INFO", OmitBootDevice: "EV_OMIT_BOOT_DEVICE_EVENTS",
	PostCode2:                  "EV_POST_CODE2",
	EFIVariableDriverConfig:    "EV_EFI_VARIABLE_DRIVER_CONFIG",
	EFIVariableBoot:            "EV_EFI_VARIABLE_BOOT",
	EFIBootServicesApplication: "EV_EFI_BOOT_SERVICES_APPLICATION",
	EFIBootServicesDriver:      "EV_EFI_BOOT_SERVICES_DRIVER",
	EFIRuntimeServicesDriver:   "EV_EFI_RUNTIME_SERVICES_DRIVER",
	EFIGPTEvent:                "EV_EFI_GPT_EVENT",
	EFIAction:                  "EV_EFI_ACTION",
	EFIPlatformFirmwareBlob:    "EV_EFI_PLATFORM_FIRMWARE_BLOB",
	EFIHandoffTables:           "EV_EFI_HANDOFF_TABLES",
	EFIPlatformFirmwareBlob2:   "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
	EFIHandoffTables2:          "EV_EFI_HANDOFF_TABLES2",
	EFIVariableBoot2:           "EV_EFI_VARIABLE_BOOT2",
	EFIGPTEvent2:               "EV_EFI_GPT_EVENT2",
	EFIHCRTMEvent:              "EV_EFI_HCRTM_EVENT",
	EFIVariableAuthority:       "EV_EFI_VARIABLE_AUTHORITY",
	EFISPDMFirmwareBlob:        "EV_EFI_SPDM_FIRMWARE_BLOB",
	EFISPDMFirmwareConfig:      "EV_EFI_SPDM_FIRMWARE_CONFIG",
	EFISPDMDevicePolicy:        "EV_EFI_SPDM_DEVICE_POLICY",
	EFISPDMDeviceAuthority:     "EV_EFI_SPDM_DEVICE_AUTHORITY",
}

// String gives the type's name in the specification, or its number.
func (t EventType) String() string {
	if n, ok := eventTypeNames[t]; ok {
		return n
	}
	return fmt.Sprintf("0x%08x", uint32(t))
}
