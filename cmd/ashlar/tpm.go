package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/ashlar-cloud/ashlar/internal/clock"
	"github.com/ashlar-cloud/ashlar/internal/store"
	"github.com/ashlar-cloud/ashlar/swtpm"
	"github.com/ashlar-cloud/ashlar/tpm"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

func newTPMCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tpm",
		Short: "Make, run and move a TPM by hand",
		Long: `Makes and runs a TPM for tpm2-tools and for trying things out. For a virtual
machine use the program swtpm, which QEMU and libvirt know. Moves a TPM from Debian's
swtpm and back. Lists what it can do.

Exit code 0: done. 1: refused, with the reason. 2: misuse.`,
		Example: "  ashlar tpm start\n  ashlar tpm manufacture ./vm1 --banks sha256\n  ashlar tpm commands",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTPMStartCmd(), newTPMManufactureCmd(), newTPMImportCmd(), newTPMExportCmd(),
		newTPMTakeoverCmd(), newTPMRekeyCmd(), newTPMBackupCmd(), newTPMRestoreCmd(), newTPMCommandsCmd())
	return cmd
}

func newTPMManufactureCmd() *cobra.Command {
	var banks, profile, key string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "manufacture DIR",
		Short: "Make the state of a new TPM",
		Long: `Makes a directory with the state of a new TPM: fresh seeds, empty authorizations,
the PCR banks and the profile chosen: what it shows of the commands and algorithms
that there are, for ever. A state that is there already is never touched.

Exit code 0: made. 1: there is one, or it cannot be written. 2: misuse.`,
		Example: "  ashlar tpm manufacture ./vm1\n  ashlar tpm manufacture ./vm1 --banks sha256,sha384" +
			"\n  ashlar tpm manufacture ./vm1 --profile ashlar-v1",
		Args: one("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			chosen, err := parseBanks(banks)
			if err != nil {
				return err
			}
			p, err := parseProfile(profile)
			if err != nil {
				return err
			}
			k, err := readKey(key)
			if err != nil {
				return err
			}
			defer k.Wipe()
			path, err := manufacture(args[0], k, tpm.Options{Banks: chosen, Profile: p})
			if err != nil {
				return refuse(err.Error())
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), map[string]string{"state": path})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "A new TPM is in %s. Start it with: ashlar tpm start --state %s\n", path, args[0])
			return err
		},
	}
	cmd.Flags().StringVar(&banks, "banks", "", "PCR banks, comma-separated: sha1, sha256, sha384, sha512 (all of them)")
	cmd.Flags().StringVar(&key, "key", "", fmt.Sprintf(keyUsage, "DIR, to encrypt it"))
	cmd.Flags().StringVar(&profile, "profile", "null", "the `NAME` of a profile (null, default-v1, default-v2, ashlar-v1), or one as JSON")
	cmd.Flags().BoolVar(&asJSON, "json", false, "write one JSON object")
	return cmd
}

func parseBanks(list string) (banks []tpm2.AlgID, err error) {
	if list == "" {
		return nil, nil
	}
	for _, name := range strings.Split(list, ",") {
		alg, ok := tpm2.ParseAlg(strings.TrimSpace(name))
		if _, isHash := alg.Hash(); !ok || !isHash {
			return nil, fmt.Errorf("%q is not one of the banks sha1, sha256, sha384, sha512", name)
		}
		banks = append(banks, alg)
	}
	return banks, nil
}

// manufacture makes a new TPM in dir and gives the path of its state.
func manufacture(dir string, k *swtpm.Key, opt tpm.Options) (string, error) {
	return inDir(dir, func(d *store.Dir) (string, error) { return swtpm.Manufacture(d, k, engineConfig(), opt) })
}

// parseProfile reads a profile's name or its JSON.
func parseProfile(s string) (*tpm.Profile, error) {
	if strings.HasPrefix(s, "{") {
		return tpm.ParseProfile([]byte(s))
	}
	named, err := json.Marshal(map[string]string{"Name": s})
	if err != nil {
		return nil, err
	}
	return tpm.ParseProfile(named)
}

type tpmStartOptions struct {
	state   string
	key     string
	profile string
	port    int
	mssim   bool
	json    bool
}

func newTPMStartCmd() *cobra.Command {
	var o tpmStartOptions
	cmd := &cobra.Command{
		Use:   "start",
		Short: "Run a TPM for tpm2-tools until interrupted",
		Long: `Runs a TPM on two ports of the loopback interface, started up and ready for
tpm2-tools, and says how to reach it. The state is kept in --state, which is made
where it is not there; without it the TPM is new each time and leaves nothing.

Exit code 0: it was interrupted, and shut down in order. 1: its state or its ports
cannot be had, with the reason. 2: misuse.`,
		Example: `  ashlar tpm start
  ashlar tpm start --state ./vm1 --port 2321
  export TPM2TOOLS_TCTI=swtpm:port=2321; tpm2_getrandom --hex 8`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.port < 1 || o.port > 65534 {
				return fmt.Errorf("--port %d is not between 1 and 65534", o.port)
			}
			var p *tpm.Profile
			if o.profile != "" {
				var err error
				if p, err = parseProfile(o.profile); err != nil {
					return err
				}
			}
			k, err := readKey(o.key)
			if err != nil {
				return err
			}
			defer k.Wipe()
			if err := runTPM(cmd, &o, k, p); err != nil {
				return refuse(err.Error())
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.state, "state", "", "keep the state in `DIR`")
	f.StringVar(&o.key, "key", "", fmt.Sprintf(keyUsage, "--state"))
	f.StringVar(&o.profile, "profile", "", "the `NAME` of a new TPM's profile, or one as JSON (null)")
	f.IntVar(&o.port, "port", 2321, "command port; the port after it is the control channel's")
	f.BoolVar(&o.json, "json", false, "when it is ready, write one JSON object with its TCTI and its state")
	f.BoolVar(&o.mssim, "mssim", false, "speak the simulator's protocol (TCTI mssim) instead of swtpm's")
	return cmd
}

func runTPM(cmd *cobra.Command, o *tpmStartOptions, key *swtpm.Key, profile *tpm.Profile) error {
	if o.state == "" {
		dir, err := os.MkdirTemp("", "ashlar-tpm-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		o.state = dir
	} else if _, err := makeDirs(o.state); err != nil {
		return err
	}
	dir, err := store.OpenDir(o.state, store.Options{Mode: 0o600})
	if err != nil {
		return err
	}
	server, err := listenTPM(o)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	server.Host = swtpm.NewHost(swtpm.Config{Dir: dir, Log: log, Key: key, Profile: profile,
		Engine: tpm.Config{Clock: clock.NewSystem(), Entropy: rand.Reader, Log: log}})
	if err := server.Host.Start(); err != nil {
		return errors.Join(err, server.Host.Close())
	}
	tcti := "swtpm"
	if o.mssim {
		tcti = "mssim"
	} else if rc := server.Host.Startup(false); rc != tpm2.RCSuccess {
		return errors.Join(rc, server.Host.Close())
	}
	state, _ := filepath.Abs(o.state)
	tcti = fmt.Sprintf("%s:port=%d", tcti, o.port)
	if o.json {
		err = writeJSON(cmd.OutOrStdout(), map[string]string{"tcti": tcti, "state": state})
	} else {
		_, err = fmt.Fprintf(cmd.ErrOrStderr(), "A TPM runs, its state in %s. In another shell:\n\n"+
			"  export TPM2TOOLS_TCTI=%s\n  tpm2_getcap properties-fixed\n\nCtrl-C ends it.\n", state, tcti)
	}
	if err != nil {
		return errors.Join(err, server.Host.Close())
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return errors.Join(server.Serve(ctx), server.Host.Close())
}

// listenTPM opens the two ports.
func listenTPM(o *tpmStartOptions) (*swtpm.Server, error) {
	listen := func(port int) (net.Listener, error) {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			return nil, fmt.Errorf("port %d cannot be listened on (choose another with --port): %w", port, err)
		}
		return l, nil
	}
	first, err := listen(o.port)
	if err != nil {
		return nil, err
	}
	second, err := listen(o.port + 1)
	if err != nil {
		return nil, errors.Join(err, first.Close())
	}
	if o.mssim {
		return &swtpm.Server{Sim: first, Platform: second}, nil
	}
	return &swtpm.Server{Data: first, Ctrl: second}, nil
}
