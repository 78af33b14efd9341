package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/ashlar-cloud/ashlar/internal/clock"
	"github.com/ashlar-cloud/ashlar/internal/disk"
	"github.com/ashlar-cloud/ashlar/internal/store"
	"github.com/ashlar-cloud/ashlar/swtpm"
	"github.com/ashlar-cloud/ashlar/tpm"
)

func newTPMImportCmd() *cobra.Command {
	var keys keyFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "import SOURCE DIR",
		Short: "Take over a TPM of swtpm",
		Long: `Makes the TPM of swtpm in SOURCE, a directory of its state files or the single
file of its backend file://, the one in DIR: the same keys, NV indices,
authorizations and counters, of libtpms 0.7 to 0.10. A TPM that was suspended goes
on where it was. SOURCE is left as it is: do not start it again, or there are two
of the same TPM. What cannot be taken over is listed, and then nothing is written.

Where SOURCE is encrypted (--key), DIR is encrypted under the same key, or as
--new-key says.

Exit code 0: taken over. 1: refused, with the reason. 2: misuse.`,
		Example: "  ashlar tpm import /var/lib/libvirt/swtpm/UUID/tpm2 ./vm1\n" +
			"  ashlar tpm import ./old ./vm1 --key pwdfile=secret,mode=aes-256-cbc\n" +
			"  ashlar tpm import ./old ./vm1 --new-key pwdfile=secret",
		Args: two("SOURCE", "DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, to, err := keys.read()
			if err != nil {
				return err
			}
			defer wipe(from, to)
			path, err := importTPM(args[0], args[1], from, to)
			if err != nil {
				return refuseMove(cmd, err)
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), map[string]string{"state": path})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "The TPM is in %s. Start it with swtpm, and the old one not again.\n", path)
			return err
		},
	}
	keys.add(cmd, "SOURCE", "DIR")
	cmd.Flags().BoolVar(&asJSON, "json", false, "write one JSON object")
	return cmd
}

func importTPM(source, dir string, from, to *swtpm.Key) (string, error) {
	f, err := readStopped(source, from)
	if err != nil {
		return "", err
	}
	defer f.Wipe()
	return inDir(dir, func(d *store.Dir) (string, error) { return swtpm.Import(d, to, engineConfig(), f) })
}

// readStopped reads a TPM of swtpm that does not run, which it would say by a lock
// on the file ".lock" of its directory.
func readStopped(source string, k *swtpm.Key) (f swtpm.Foreign, err error) {
	info, err := os.Stat(source)
	if err != nil {
		return f, err
	}
	dir := source
	if !info.IsDir() {
		dir = filepath.Dir(source)
	}
	unlock, err := store.LockToRead(dir)
	switch {
	case errors.Is(err, store.ErrLocked):
		return f, err
	case err != nil:
		return f, fmt.Errorf("%w: it cannot be seen whether the TPM runs; "+
			"where it does not, copy its state to another directory, without the lock file, and import that", err)
	}
	defer unlock()
	return swtpm.ReadForeign(source, k)
}

func newTPMExportCmd() *cobra.Command {
	var keys keyFlags
	var drop, asJSON bool
	cmd := &cobra.Command{
		Use:   "export DIR FILE",
		Short: "Give a TPM back to swtpm",
		Long: `Writes the TPM in DIR, which must not run, to FILE in the form of swtpm's
tpm2-00.permall, from which swtpm with libtpms 0.9 or later starts it; one with
another profile than null needs libtpms 0.10. A file that is there already is never
touched. DIR is left as it is: do not start it again, or there are two of the same
TPM. What cannot go is listed, and then nothing is written.

Where DIR is encrypted (--key), FILE is encrypted under the same key, or as
--new-key says.

Contexts that the guest has saved would not load there. Where the machine was not
shut down but suspended to its disk or cut off, --drop-saved leaves out what the
guest has saved by TPM2_Shutdown(STATE): the next start is a TPM Reset.

Exit code 0: written. 1: refused, with the reason. 2: misuse.`,
		Example: "  ashlar tpm export ./vm1 ./old/tpm2-00.permall\n" +
			"  ashlar tpm export ./vm1 ./old/tpm2-00.permall --new-key pwdfile=secret,mode=aes-256-cbc",
		Args: two("DIR", "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, to, err := keys.read()
			if err != nil {
				return err
			}
			defer wipe(from, to)
			if err := exportTPM(args[0], args[1], from, to, drop); err != nil {
				return refuseMove(cmd, err)
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), map[string]string{"file": args[1]})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "The TPM is in %s. Do not start it from %s again.\n", args[1], args[0])
			return err
		},
	}
	keys.add(cmd, "DIR", "FILE")
	cmd.Flags().BoolVar(&drop, "drop-saved", false, "leave out what the guest has saved by TPM2_Shutdown(STATE)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "write one JSON object")
	return cmd
}

func exportTPM(dir, file string, from, to *swtpm.Key, drop bool) error {
	if _, err := os.Stat(dir); err != nil {
		return err
	}
	var b []byte
	defer func() { clear(b) }()
	_, err := locked(dir, func(d *store.Dir) (_ string, err error) {
		b, err = swtpm.Export(d, from, engineConfig(), to, drop)
		return "", err
	})
	if err == nil {
		err = store.WriteNew(file, b)
	}
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already; it is left as it is", file)
	}
	return err
}

// locked holds a state directory while f works on it, with the rights on files of who
// owns it.
func locked(dir string, f func(*store.Dir) (string, error)) (string, error) {
	return lockedMode(dir, 0o600, f)
}

// lockedMode is locked, with the mode of the files that f makes.
func lockedMode(dir string, mode fs.FileMode, f func(*store.Dir) (string, error)) (path string, err error) {
	hold := func() error {
		d, err := store.OpenDir(dir, store.Options{Mode: mode})
		if err != nil {
			return err
		}
		if err := d.Lock(0); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
		defer func() { _ = d.Unlock() }()
		path, err = f(d)
		return err
	}
	err = asOwner(dir, func() error { _, err := os.Stat(dir); return err })
	if errors.Is(err, fs.ErrPermission) { // root keeps it below a directory of its own
		err = hold()
	} else if err == nil {
		err = asOwner(dir, hold)
	}
	return path, err
}

// inDir is locked for a directory that need not be there: it is made, and where
// f fails, what was made is taken away again.
func inDir(dir string, f func(*store.Dir) (string, error)) (path string, err error) {
	made, err := makeDirs(dir)
	if err == nil {
		path, err = locked(dir, func(d *store.Dir) (string, error) {
			path, err := f(d)
			if err != nil && len(made) != 0 {
				err = errors.Join(err, d.Discard())
			}
			return path, err
		})
	}
	if err != nil {
		for _, dir := range slices.Backward(made) {
			_ = os.Remove(dir) // it stays where another has put something into it
		}
	}
	return path, err
}

// makeDirs makes a directory and those above it, durably, and gives those that it made, the
// deepest last.
func makeDirs(path string) (made []string, err error) {
	if _, err := os.Stat(path); err == nil {
		return nil, nil
	}
	if above := filepath.Dir(path); above != path {
		if made, err = makeDirs(above); err != nil {
			return made, err
		}
	}
	switch err := os.Mkdir(path, 0o700); {
	case err == nil: // or a crash could take it with all that is durable in it
		return append(made, path), disk.System{}.SyncDir(filepath.Dir(path))
	case !errors.Is(err, fs.ErrExist):
		return made, err
	}
	return made, nil // another was quicker
}

// engineConfig is what an engine needs that moves a state, and runs nothing.
func engineConfig() tpm.Config { return tpm.Config{Clock: clock.NewSystem(), Entropy: rand.Reader} }

// refuseMove refuses with a line for each thing that cannot be carried.
func refuseMove(cmd *cobra.Command, err error) error {
	var not *tpm.NotCarried
	if !errors.As(err, &not) {
		return refuse(err.Error())
	}
	for _, thing := range not.Things {
		if _, err := fmt.Fprintln(cmd.ErrOrStderr(), "- "+plain(thing)); err != nil {
			return err
		}
	}
	return refuse("not all of the TPM's state can be taken over, so nothing was written")
}

// two wants exactly two arguments, and calls them what the usage line does.
func two(first, second string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch len(args) {
		case 2:
			return nil
		case 1:
			return fmt.Errorf("%s is missing: %s", second, cmd.UseLine())
		case 0:
			return fmt.Errorf("%s is missing: %s", first, cmd.UseLine())
		}
		return fmt.Errorf("%q is one too many: %s", args[2], cmd.UseLine())
	}
}
