package guest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// The two interfaces through which a PC guest sees a TPM (PC Client Platform TPM
// Profile, section 6): as QEMU names the devices.
const (
	CRB = "tpm-crb"
	TIS = "tpm-tis"
)

// Cmdline is the kernel command line of an unchanged guest. The IMA settings fix
// the log's template and digest whatever the kernel's build chose.
const Cmdline = "console=ttyS0 panic=-1 ima_template=ima-ng ima_hash=sha256"

// memoryMiB is the guest's memory: the kernel, OVMF and the unpacked initramfs.
const memoryMiB = "512"

// Stage is a point that a boot reaches.
type Stage string

// The stages of a boot, in order.
const (
	StageFirmware Stage = "firmware" // QEMU runs OVMF
	StageKernel   Stage = "kernel"   // the kernel writes its first line
	StageReady    Stage = "ready"    // the first program serves the line to the host
)

// Config says what to boot.
type Config struct {
	Host     Host
	Kernel   string // path of the kernel image
	Initrd   string // path of an initramfs made by Initramfs
	Cmdline  string // "" = the constant Cmdline
	Device   string // CRB or TIS; "" = CRB
	TPM      string // path of the swtpm program
	TPMState string // directory of the TPM's state, kept over boots
	Dir      string // directory for console.log and tpm.log; it must exist
	// Progress is called as each stage is reached; may be nil. It runs on the
	// goroutine of Boot.
	Progress func(Stage)
}

// Machine is a running guest.
type Machine struct {
	cfg     Config
	scratch string // sockets and the variable store; short, since a socket's path is limited to 107 bytes
	tpm     *tpmProcess
	qemu    *exec.Cmd
	qemuErr strings.Builder
	exited  chan struct{}
	line    *Line
}

// Boot starts the TPM and the guest, and returns when the guest's first program is
// ready for requests. The context ends all of it. The caller must Close the machine.
func Boot(ctx context.Context, cfg Config) (*Machine, error) {
	if cfg.Cmdline == "" {
		cfg.Cmdline = Cmdline
	}
	if cfg.Device == "" {
		cfg.Device = CRB
	}
	if cfg.Progress == nil {
		cfg.Progress = func(Stage) {}
	}
	scratch, err := os.MkdirTemp("", "ashlar-guest-")
	if err != nil {
		return nil, err
	}
	m := &Machine{cfg: cfg, scratch: scratch, exited: make(chan struct{})}
	if err := m.start(ctx); err != nil {
		m.Close()
		return nil, err
	}
	if err := m.awaitReady(ctx); err != nil {
		m.Close()
		return nil, m.explain(err)
	}
	return m, nil
}

func (m *Machine) start(ctx context.Context) error {
	vars := filepath.Join(m.scratch, "vars.fd")
	empty, err := os.ReadFile(m.cfg.Host.FirmwareVars)
	if err != nil {
		return err
	}
	if err := os.WriteFile(vars, empty, 0o600); err != nil {
		return err
	}
	m.tpm, err = startTPM(ctx, m.cfg.TPM, m.cfg.TPMState, m.scratch, filepath.Join(m.cfg.Dir, "tpm.log"))
	if err != nil {
		return err
	}
	m.qemu = exec.CommandContext(ctx, m.cfg.Host.QEMU, m.arguments(vars)...)
	m.qemu.Stderr = &m.qemuErr
	if err := m.qemu.Start(); err != nil {
		m.qemu = nil
		return fmt.Errorf("QEMU does not start: %w", err)
	}
	go func() { m.qemu.Wait(); close(m.exited) }() //nolint:errcheck // told by explain
	m.cfg.Progress(StageFirmware)
	return nil
}

// arguments is QEMU's command line: a machine with firmware, TPM, kernel and two
// serial ports, and nothing else that could be measured.
func (m *Machine) arguments(vars string) []string {
	return []string{
		"-machine", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", memoryMiB,
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file=" + escape(m.cfg.Host.FirmwareCode),
		"-drive", "if=pflash,unit=1,format=raw,file=" + escape(vars),
		"-chardev", "socket,id=tpm,path=" + escape(m.tpm.socket),
		"-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", m.cfg.Device + ",tpmdev=tpm0",
		"-kernel", m.cfg.Kernel, "-initrd", m.cfg.Initrd, "-append", m.cfg.Cmdline,
		"-chardev", "file,id=console,path=" + escape(m.consolePath()), "-serial", "chardev:console",
		"-chardev", "socket,id=line,server=on,wait=off,path=" + escape(m.linePath()), "-serial", "chardev:line",
	}
}

// escape doubles commas, which separate QEMU's suboptions.
func escape(path string) string { return strings.ReplaceAll(path, ",", ",,") }

func (m *Machine) consolePath() string { return filepath.Join(m.cfg.Dir, "console.log") }
func (m *Machine) linePath() string    { return filepath.Join(m.scratch, "line") }

// Console gives what the guest has written to its console so far.
func (m *Machine) Console() string {
	out, _ := os.ReadFile(m.consolePath()) // absent before QEMU opens it: nothing written
	return string(out)
}

// awaitReady connects the line and waits for the first program's greeting, telling
// the stages that the console shows meanwhile.
func (m *Machine) awaitReady(ctx context.Context) error {
	conn, err := m.dial(ctx)
	if err != nil {
		return err
	}
	m.line = NewLine(conn)
	greeted := make(chan error, 1)
	go func() { greeted <- m.line.Ready(ctx) }()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	kernelSeen := false
	for {
		select {
		case err := <-greeted:
			if err != nil {
				return err
			}
			if !kernelSeen {
				m.cfg.Progress(StageKernel)
			}
			m.cfg.Progress(StageReady)
			return nil
		case <-m.exited:
			return errors.New("QEMU ended before the guest was ready")
		case <-ctx.Done():
			return fmt.Errorf("the guest did not get ready: %w", ctx.Err())
		case <-tick.C:
			if !kernelSeen && strings.Contains(m.Console(), "Linux version ") {
				kernelSeen = true
				m.cfg.Progress(StageKernel)
			}
		}
	}
}

// dial connects to QEMU's end of the line, which appears soon after QEMU starts.
func (m *Machine) dial(ctx context.Context) (net.Conn, error) {
	for {
		conn, err := net.Dial("unix", m.linePath())
		if err == nil {
			return conn, nil
		}
		select {
		case <-m.exited:
			return nil, errors.New("QEMU does not start the guest")
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Put writes data to a file in the guest.
func (m *Machine) Put(ctx context.Context, path string, data []byte) error {
	return m.explain(m.line.Put(ctx, path, data))
}

// Get reads a file from the guest.
func (m *Machine) Get(ctx context.Context, path string) ([]byte, error) {
	data, err := m.line.Get(ctx, path)
	return data, m.explain(err)
}

// Run runs a shell command in the guest and gives its exit status and output, which
// the console also shows.
func (m *Machine) Run(ctx context.Context, command string) (status int, output []byte, err error) {
	status, output, err = m.line.Run(ctx, command)
	return status, output, m.explain(err)
}

// PowerOff asks the guest to power itself off and waits until QEMU and the TPM are gone.
func (m *Machine) PowerOff(ctx context.Context) error {
	if err := m.line.PowerOff(); err != nil {
		return m.explain(err)
	}
	select {
	case <-m.exited:
		m.qemu = nil
	case <-time.After(20 * time.Second):
		return m.explain(errors.New("the guest does not power off"))
	case <-ctx.Done():
		return ctx.Err()
	}
	tpm := m.tpm
	m.tpm = nil
	if err := tpm.wait(); err != nil {
		return err
	}
	return m.Close()
}

// Close ends whatever still runs and removes the scratch files. It may be called twice.
func (m *Machine) Close() error {
	if m.line != nil {
		m.line.Close()
	}
	if m.qemu != nil {
		m.qemu.Process.Kill() //nolint:errcheck // it may be gone already
		<-m.exited
		m.qemu = nil
	}
	if m.tpm != nil {
		m.tpm.kill()
		m.tpm = nil
	}
	return os.RemoveAll(m.scratch)
}

// explain adds to an error what QEMU said and where the console's log is.
func (m *Machine) explain(err error) error {
	if err == nil {
		return nil
	}
	select {
	case <-m.exited:
		if said := strings.TrimSpace(m.qemuErr.String()); said != "" {
			err = fmt.Errorf("%w: %s", err, said)
		}
	default:
	}
	return fmt.Errorf("%w (see %s)", err, m.consolePath())
}
