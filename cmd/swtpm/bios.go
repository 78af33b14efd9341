package main

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/ashlar-cloud/ashlar/swtpm"
)

const biosUsage = `Usage: swtpm_bios --tpm2 [options]

Starts a TPM 2.0 as firmware does: sends Startup on its data channel, and what the
options ask for.

Where the TPM is:
  --tcp [HOST]:[PORT]  127.0.0.1 and 6545 where not given
  --unix PATH
  --tpm-device PATH    a device; /dev/tpm0 or $TPM_DEVICE where nothing is given.
                       $TCSD_USE_TCP_DEVICE means TCP, to $TCSD_TCP_DEVICE_HOSTNAME
                       and $TCSD_TCP_DEVICE_PORT

What it sends:
  -c                   Startup(CLEAR); so it does by itself
  -s                   Startup(STATE)
  -n, -d               no Startup
  -o                   only that, as without -cs and -u
  -cs                  IncrementalSelfTest
  -u                   a random password for the platform hierarchy
  --tpm2               needed: there is no TPM 1.2
  -ea                  nothing: a TPM 2.0 is always active
  -v, -h               the version, this page

Example:
  swtpm_bios --tpm2 --tcp :2321 -cs -u

Exit codes: 0 done; 128 the TPM answered an error; 255 it could not be reached;
1 the command line is wrong.
`

// biosPort is the port where --tcp names none.
const biosPort = 6545

// Exit codes of swtpm_bios.
const (
	exitTPM  = 128 // the TPM answered an error
	exitLost = 255 // it could not be reached
)

// biosPatience is the time for one command, as in swtpm_bios.
const biosPatience = 20 * time.Second

// biosStep is a command that swtpm_bios sends.
type biosStep struct {
	name    string
	command []byte
}

// bios is the program swtpm_bios.
func bios(args []string) error {
	known := append([]toolOption{{"c", 0}, {"d", 0}, {"h", 0}, {"v", 0}, {"n", 0}, {"s", 0}, {"o", 0},
		{"cs", 0}, {"ea", 0}, {"u", 0}, {"tpm2", 0}}, places...)
	given, rest, err := parseTool(known, args)
	if err != nil {
		return err
	}
	var to destination
	set := map[string]bool{}
	startup := "c"
	for i := range given {
		g := &given[i]
		if isPlace, err := to.take(g, biosPort); isPlace {
			if err != nil {
				return err
			}
			continue
		}
		set[g.name] = true
		switch g.name {
		case "v":
			fmt.Printf("TPM emulator BIOS emulator version %s, Ashlar\n", swtpm.Version)
			return nil
		case "h":
			fmt.Print(biosUsage)
			return nil
		case "c", "s", "n", "d":
			startup = g.name
		}
	}
	switch {
	case len(rest) > 0:
		return complain("'%s' is no option: see 'swtpm_bios -h'", rest[0])
	case !set["tpm2"]:
		return complain("there is no TPM 1.2 in this version: add --tpm2")
	}
	if err := to.biosDefault(); err != nil {
		return err
	}
	return to.send(biosSteps(startup, set["cs"], set["u"]))
}

// biosDefault takes from the environment where no option says where the TPM is.
func (d *destination) biosDefault() (err error) {
	switch {
	case *d != destination{}:
	case os.Getenv("TCSD_USE_TCP_DEVICE") != "":
		host, port := os.Getenv("TCSD_TCP_DEVICE_HOSTNAME"), os.Getenv("TCSD_TCP_DEVICE_PORT")
		if host == "" {
			host = "localhost"
		}
		if port == "" {
			port = strconv.Itoa(biosPort)
		}
		d.tcp, err = hostPort(host+":"+port, biosPort)
	case os.Getenv("TPM_DEVICE") != "":
		d.device = os.Getenv("TPM_DEVICE")
	default:
		d.device = "/dev/tpm0"
	}
	return err
}

// biosSteps are the commands (Part 3, 9.3, 10.3 and 24.8) in their order.
func biosSteps(startup string, test, password bool) (steps []biosStep) {
	step := func(name string, tag uint16, cc uint32, body ...byte) {
		b := binary.BigEndian.AppendUint16(nil, tag)
		b = binary.BigEndian.AppendUint32(b, uint32(10+len(body)))
		b = binary.BigEndian.AppendUint32(b, cc)
		steps = append(steps, biosStep{name, append(b, body...)})
	}
	const plain, authorized = 0x8001, 0x8002
	switch startup {
	case "c":
		step("TPM2_Startup", plain, 0x144, 0, 0)
	case "s":
		step("TPM2_Startup", plain, 0x144, 0, 1)
	}
	if test {
		step("TPM2_IncrementalSelfTest", plain, 0x142, 0, 0, 0, 1, 0, 0x0b) // SHA-256
	}
	if password {
		body := []byte{0x40, 0, 0, 0x0c, // the platform, by its empty password
			0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 1, 0, 0,
			0, 20}
		var secret [20]byte
		_, _ = rand.Read(secret[:]) // does not fail
		step("TPM2_HierarchyChangeAuth", authorized, 0x129, append(body, secret[:]...)...)
	}
	return steps
}

// send sends commands, each on a connection of its own. What the TPM refuses does
// not keep the next one from it.
func (d *destination) send(steps []biosStep) error {
	refused := false
	for _, s := range steps {
		rc, err := d.talk(s.command)
		if err != nil {
			return &exitError{exitLost, err}
		}
		if rc != 0 {
			fmt.Printf("%s returned error code 0x%08x\n", s.name, rc)
			refused = true
		}
	}
	if refused {
		return &exitError{exitTPM, nil}
	}
	return nil
}

// talk sends one command and gives the response code.
func (d *destination) talk(command []byte) (uint32, error) {
	conn, err := d.open()
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	// A device without poll has no deadlines, and times out in the kernel.
	_ = conn.SetDeadline(time.Now().Add(biosPatience))
	if _, err := conn.Write(command); err != nil {
		return 0, complain("Write to file descriptor failed: %v", cause(err))
	}
	rsp := make([]byte, 4096) // at once, as a device needs it
	n, err := io.ReadAtLeast(conn, rsp, 10)
	switch {
	case os.IsTimeout(err):
		return 0, complain("TPM did not respond after %d seconds.", int(biosPatience.Seconds()))
	case err != nil && n > 0:
		return 0, complain("Returned packet is too short.")
	case err != nil:
		return 0, complain("Read from file descriptor failed: %v", cause(err))
	case binary.BigEndian.Uint32(rsp[2:]) != uint32(n):
		return 0, complain("Malformed response.")
	}
	return binary.BigEndian.Uint32(rsp[6:]), nil
}

// deadlined is a connection, or a device.
type deadlined interface {
	io.ReadWriteCloser
	SetDeadline(time.Time) error
}

func (d *destination) open() (deadlined, error) {
	if d.device == "" {
		return d.dial()
	}
	f, err := os.OpenFile(d.device, os.O_RDWR, 0)
	if err != nil {
		return nil, complain("Unable to open device '%s': %v", d.device, pathCause(err))
	}
	return f, nil
}
