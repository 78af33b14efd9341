package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/ashlar-cloud/ashlar/swtpm"
)

const ioctlUsage = `Usage: swtpm_ioctl COMMAND [--tcp [HOST]:[PORT] | --unix PATH]

Sends one command on the control channel of a swtpm that runs.

Where the TPM is:
  --tcp [HOST]:[PORT]  127.0.0.1 and 6546 where not given
  --unix PATH
  --tpm-device PATH    or PATH as the last word: a CUSE device, which is refused:
                       there is none of this swtpm

Commands:
  -c                   which commands there are, as a bit mask
  -i                   power on; a volatile state is resumed from and deleted
  --stop               power off
  -s                   power off, and end the process
  -e                   the tpmEstablished bit
  -r LOCALITY          clear that bit: locality 3 or 4
  -v                   store the volatile state
  -C                   cancel the command that runs
  -l LOCALITY          set the locality of commands, 0 to 4
  -h DATA              measure the data by the platform; - is standard input
  --save TYPE FILE     write a state to a file: permanent, volatile or savestate
  --load TYPE FILE     give a state to a TPM that is off
  -g                   which keys are in use: 1 for the state, 2 for migration
  -b SIZE              set the size of the buffers; 0 shows it and its limits
  --info FLAGS         about the TPM, as JSON; see swtpm --print-info
  --lock-storage N     lock the state again after a migration that failed,
                       with N tries more, 10 ms apart
  --version, --help

Example:
  swtpm_ioctl --unix vm1/ctrl --info 3

Exit codes: 0 done; 1 anything else, with one line on standard error.
`

// ioctlPort is the port where --tcp names none.
const ioctlPort = 6546

// ioctlCommands are the commands of swtpm_ioctl: what each needs behind it, and
// what it does.
var ioctlCommands = map[string]struct {
	values int
	run    func(c *swtpm.Client, values []string) error
}{
	"c": {0, func(c *swtpm.Client, _ []string) error {
		return show("ptm capability is 0x%x\n")(c.Capabilities())
	}},
	"i":    {0, func(c *swtpm.Client, _ []string) error { return c.Init(true) }},
	"stop": {0, func(c *swtpm.Client, _ []string) error { return c.Stop() }},
	"s":    {0, func(c *swtpm.Client, _ []string) error { return c.Shutdown() }},
	"e":    {0, ioctlEstablished},
	"r":    {1, func(c *swtpm.Client, v []string) error { return atLocality(v[0], c.ResetEstablished) }},
	"v":    {0, func(c *swtpm.Client, _ []string) error { return c.StoreVolatile() }},
	"C":    {0, func(c *swtpm.Client, _ []string) error { return c.Cancel() }},
	"l":    {1, func(c *swtpm.Client, v []string) error { return atLocality(v[0], c.SetLocality) }},
	"h":    {1, ioctlHash},
	"save": {2, ioctlSave},
	"load": {2, ioctlLoad},
	"g": {0, func(c *swtpm.Client, _ []string) error {
		return show("ptm configuration flags: 0x%x\n")(c.Config())
	}},
	"b":            {1, ioctlBuffer},
	"info":         {1, ioctlInfo},
	"lock-storage": {1, ioctlLock},
}

// ioctl is the program swtpm_ioctl.
func ioctl(args []string) error {
	known := append([]toolOption{{"version", 0}, {"help", 0}}, places...)
	for _, name := range slices.Sorted(maps.Keys(ioctlCommands)) {
		known = append(known, toolOption{name, ioctlCommands[name].values})
	}
	given, rest, err := parseTool(known, args)
	if err != nil {
		return err
	}
	var to destination
	var command *givenOption
	for i := range given {
		g := &given[i]
		switch isPlace, err := to.take(g, ioctlPort); {
		case err != nil:
			return err
		case isPlace:
		case g.name == "version":
			fmt.Printf("TPM emulator control tool version %s, Ashlar\n", swtpm.Version)
			return nil
		case g.name == "help":
			fmt.Print(ioctlUsage)
			return nil
		case command != nil:
			return complain("Only one command may be given.")
		default:
			command = g
		}
	}
	if to == (destination{}) && len(rest) > 0 {
		to.device, rest = rest[0], rest[1:]
	}
	switch {
	case command == nil:
		return complain("No valid command.")
	case to == (destination{}):
		return complain("Error: Missing device name.")
	case len(rest) > 0:
		return complain("'%s' is no option: see 'swtpm_ioctl --help'", rest[0])
	case to.device != "":
		return complain("'%s' is to be a CUSE device, which this version does not have: use --tcp or --unix", to.device)
	}
	conn, err := to.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	return ioctlCommands[command.name].run(swtpm.NewClient(conn), command.values)
}

// show prints a word that was answered.
func show(format string) func(uint32, error) error {
	return func(w uint32, err error) error {
		if err == nil {
			fmt.Printf(format, w)
		}
		return err
	}
}

func ioctlEstablished(c *swtpm.Client, _ []string) error {
	bit, err := c.Established()
	if err != nil {
		return err
	}
	n := 0
	if bit {
		n = 1
	}
	fmt.Printf("tpmEstablished is %d\n", n)
	return nil
}

func atLocality(value string, f func(uint8) error) error {
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil {
		return complain("Could not get locality number from %s.", value)
	}
	if n > 4 {
		return complain("Locality outside valid range of [0..4].")
	}
	return f(uint8(n))
}

func ioctlHash(c *swtpm.Client, v []string) error {
	if v[0] == "-" {
		return c.Hash(os.Stdin)
	}
	return c.Hash(strings.NewReader(v[0]))
}

func ioctlBuffer(c *swtpm.Client, v []string) error {
	n, err := strconv.ParseUint(v[0], 10, 32)
	if err != nil {
		return complain("Could not get buffersize from %s.", v[0])
	}
	size, least, most, err := c.BufferSize(uint32(n))
	if err == nil {
		fmt.Printf("TPM buffersize: %d\nminimum size  : %d\nmaximum size  : %d\n", size, least, most)
	}
	return err
}

func ioctlInfo(c *swtpm.Client, v []string) error {
	flags, err := strconv.ParseUint(v[0], 0, 64)
	if err != nil {
		return complain("Cannot parse info flags.")
	}
	text, err := c.Info(flags)
	if err == nil {
		fmt.Printf("%s\n", text)
	}
	return err
}

func ioctlLock(c *swtpm.Client, v []string) error {
	n, err := strconv.ParseUint(v[0], 10, 32)
	if err != nil {
		return complain("Could not parse lock retries from %s.", v[0])
	}
	return c.LockStorage(uint32(n))
}

func blobType(name string) (swtpm.BlobType, error) {
	switch name {
	case "permanent":
		return swtpm.BlobPermanent, nil
	case "volatile":
		return swtpm.BlobVolatile, nil
	case "savestate":
		return swtpm.BlobSaveState, nil
	}
	return 0, complain("Unknown TPM state type '%s'", name)
}

// ioctlSave writes a state to a file that is its owner's alone. One that is not
// there makes an empty file, as with swtpm.
func ioctlSave(c *swtpm.Client, v []string) error {
	t, err := blobType(v[0])
	if err != nil {
		return err
	}
	f, err := os.OpenFile(v[1], os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return complain("Could not open file '%s' for writing: %v", v[1], pathCause(err))
	}
	defer f.Close()
	blob, err := c.StateBlob(t)
	if err != nil {
		return err
	}
	defer clear(blob)
	if _, err = f.Write(blob); err == nil {
		err = f.Sync() // the next command may be the one that ends the TPM
	}
	if err != nil {
		return complain("Could not write to file '%s': %v", v[1], pathCause(err))
	}
	return nil
}

func ioctlLoad(c *swtpm.Client, v []string) error {
	t, err := blobType(v[0])
	if err != nil {
		return err
	}
	f, err := os.Open(v[1])
	if err != nil {
		return complain("Could not open file '%s' for reading: %v", v[1], pathCause(err))
	}
	defer f.Close()
	blob, err := io.ReadAll(io.LimitReader(f, swtpm.MaxBlob+1))
	if err != nil {
		return complain("Could not read from file '%s': %v", v[1], pathCause(err))
	}
	defer clear(blob)
	return c.SetStateBlob(t, blob)
}

func pathCause(err error) error {
	if p, ok := err.(*os.PathError); ok {
		return p.Err
	}
	return err
}
