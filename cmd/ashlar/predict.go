package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ashlar-cloud/ashlar/measurement/predict/sevlaunch"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

func newPredictCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "predict",
		Short: "Compute what a machine will measure, before it ever boots",
		Long: `Computes from the images what evidence of the machine will say, for reference values.
Exit code 0: computed. 1: refused, with the reason. 2: misuse.`,
		Example: `  ashlar predict sev --firmware OVMF.amdsev.fd --vcpus 4 --cpu EPYC-Milan \
      --kernel vmlinuz --initrd initrd.img --cmdline "console=ttyS0" --refvalues good.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPredictSEVCmd())
	return cmd
}

// predictSEV are the options of "predict sev".
type predictSEV struct {
	mode, firmware, cpu, vmm, kernel, initrd, cmdline, refvalues string
	vcpus                                                        int
	features                                                     uint64
	json                                                         bool
}

func newPredictSEVCmd() *cobra.Command {
	var o predictSEV
	cmd := &cobra.Command{
		Use:   "sev --firmware FILE",
		Short: "The launch digest under AMD SEV, SEV-ES or SEV-SNP",
		Long: `Computes the launch digest: the measurement of an SEV-SNP report, or the digest that
an SEV or SEV-ES launch measurement authenticates. With --kernel the firmware must
measure direct boots (kernel-hashes=on; the AmdSev build of OVMF). With --refvalues
it writes reference values for "ashlar appraise sev-snp" or "sev".

Exit code 0: computed. 1: the firmware cannot be launched so, with the reason.
2: misuse.`,
		Example: `  ashlar predict sev --firmware OVMF.fd --vcpus 4 --cpu EPYC-Genoa
  ashlar predict sev --mode sev-es --firmware OVMF.amdsev.fd --vcpus 2 --cpu EPYC-Rome --kernel vmlinuz --cmdline quiet`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&o.mode, "mode", "snp", "the `PROTECTION`: snp, sev-es or sev")
	f.StringVar(&o.firmware, "firmware", "", "the image of OVMF in `FILE`")
	f.IntVar(&o.vcpus, "vcpus", 1, "how many processors, `N`")
	f.StringVar(&o.cpu, "cpu", "", "QEMU's `MODEL` of processor: "+strings.Join(sevlaunch.CPUModels(), ", ")+"; it matters for snp and sev-es under QEMU")
	f.StringVar(&o.vmm, "vmm", "qemu", "who launches it, `VMM`: qemu, ec2 or gce")
	f.StringVar(&o.kernel, "kernel", "", "the kernel of a direct boot, in `FILE`")
	f.StringVar(&o.initrd, "initrd", "", "its initrd, in `FILE`")
	f.StringVar(&o.cmdline, "cmdline", "", "its command line, `TEXT`")
	f.Uint64Var(&o.features, "features", sevlaunch.DefaultFeatures, "SEV_FEATURES of an snp guest, `N`; 0x21 with debug swap")
	f.StringVar(&o.refvalues, "refvalues", "", "write reference values to `FILE`")
	f.BoolVar(&o.json, "json", false, "write one JSON object")
	return cmd
}

// launchMode is a protection by its name on the command line: what it is, the kind
// of its evidence, and the fact there.
type launchMode struct {
	mode       sevlaunch.Mode
	kind, fact string
}

var launchModes = map[string]launchMode{
	"snp": {sevlaunch.SNP, "sev-snp", "measurement"}, "sev-es": {sevlaunch.SEVES, "sev", "launch_digest"}, "sev": {sevlaunch.SEV, "sev", "launch_digest"},
}

// machine reads what the command line names.
func (o *predictSEV) machine(cmd *cobra.Command) (*sevlaunch.Machine, error) {
	mode, ok := launchModes[o.mode]
	if !ok {
		return nil, fmt.Errorf("--mode %q is none of snp, sev-es, sev", o.mode)
	}
	vmm, ok := map[string]sevlaunch.VMM{"qemu": sevlaunch.QEMU, "ec2": sevlaunch.EC2, "gce": sevlaunch.GCE}[o.vmm]
	if !ok {
		return nil, fmt.Errorf("--vmm %q is none of qemu, ec2, gce", o.vmm)
	}
	m := &sevlaunch.Machine{Mode: mode.mode, VCPUs: o.vcpus, VMM: vmm, Features: o.features}
	if m.CPU, ok = sevlaunch.CPUModel(o.cpu); !ok && (o.cpu != "" || vmm == sevlaunch.QEMU && mode.mode != sevlaunch.SEV) {
		return nil, fmt.Errorf("--cpu %q is none of %s", o.cpu, strings.Join(sevlaunch.CPUModels(), ", "))
	}
	if o.firmware == "" {
		return nil, fmt.Errorf("--firmware is missing: name the image of OVMF")
	}
	if o.kernel == "" && (o.initrd != "" || o.cmdline != "") {
		return nil, fmt.Errorf("--initrd and --cmdline go with --kernel")
	}
	b, err := readInput(cmd, o.firmware, sevlaunch.MaxFirmware)
	if err != nil {
		return nil, err
	}
	if m.Firmware, err = sevlaunch.ParseFirmware(b); err != nil {
		return nil, refuse(fmt.Sprintf("%s: %v", o.firmware, err))
	}
	if o.kernel == "" {
		return m, nil
	}
	const maxImage = 1 << 30
	kernel, err := readInput(cmd, o.kernel, maxImage)
	if err != nil {
		return nil, err
	}
	var initrd []byte
	if o.initrd != "" {
		if initrd, err = readInput(cmd, o.initrd, maxImage); err != nil {
			return nil, err
		}
	}
	m.Kernel, err = sevlaunch.NewKernel(kernel, initrd, o.cmdline)
	return m, err
}

func (o *predictSEV) run(cmd *cobra.Command) error {
	m, err := o.machine(cmd)
	if err != nil {
		return err
	}
	digest, err := m.Digest()
	if err != nil {
		return refuse(err.Error())
	}
	text, mode := hex.EncodeToString(digest), launchModes[o.mode]
	if o.refvalues != "" {
		b, err := json.MarshalIndent(&scheme.Values{Format: scheme.ValuesFormat, Version: scheme.ValuesVersion, Kind: mode.kind,
			Created: time.Now().UTC().Truncate(time.Second), OneOf: map[string][]string{mode.fact: {text}}}, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(o.refvalues, append(b, '\n'), 0o644); err != nil {
			return err
		}
	}
	if o.json {
		return writeJSON(cmd.OutOrStdout(), map[string]string{"kind": mode.kind, mode.fact: text})
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
	return err
}
