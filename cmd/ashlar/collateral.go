package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ashlar-cloud/ashlar/verifier"
	"github.com/ashlar-cloud/ashlar/verifier/collateral"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// collateralOptions are those of the verbs below "ashlar collateral".
type collateralOptions struct {
	json    bool
	wait    time.Duration
	within  int
	mirrors []string
}

func newCollateralCmd() *cobra.Command {
	var o collateralOptions
	cmd := &cobra.Command{
		Use:   "collateral",
		Short: "Keep what makers publish: certificates, revocation lists, TCB information",
		Long: `Keeps, in a directory, what AMD and Intel publish about their processors, so that
"ashlar appraise --collateral DIR" works offline, and their services are asked no
oftener than they allow.`,
		Example: `  ashlar collateral fetch /var/lib/ashlar/collateral amd intel
  ashlar collateral warm /var/lib/ashlar/collateral sev-snp report.bin
  ashlar collateral refresh /var/lib/ashlar/collateral
  ashlar collateral check /var/lib/ashlar/collateral --within 30`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	list := &cobra.Command{Use: "list DIR", Short: "List what is kept, and until when it is good", Args: cobra.ExactArgs(1),
		Long: `Lists what is kept, with its address. Exit code 0; 1 if a file is damaged, which is
then fetched again when it is needed; 2: misuse.`, Example: "  ashlar collateral list /var/lib/ashlar/collateral",
		RunE: func(cmd *cobra.Command, args []string) error { return o.list(cmd, args[0]) }}
	check := &cobra.Command{Use: "check DIR", Short: "Say what ends soon, is old, or is about to change", Args: cobra.ExactArgs(1),
		Long: `Says what ends soon, was not fetched for days, or will change: Intel announces the
TCB information of a TCB recovery before it comes into force. Asks nobody.
Exit code 0: there is nothing to say. 1: there is. 2: misuse.`, Example: "  ashlar collateral check /var/lib/ashlar/collateral --within 30",
		RunE: func(cmd *cobra.Command, args []string) error { return o.check(cmd, args[0]) }}
	check.Flags().IntVar(&o.within, "within", 30, "warn of what ends within so many `DAYS`")
	fetch := &cobra.Command{Use: "fetch DIR WHAT...", Short: "Fetch what is published for all machines of a maker", Args: cobra.MinimumNArgs(2),
		Long: `Fetches what does not depend on one machine. WHAT is "amd", "intel", or one of
AMD's product lines ("amd:Milan", "amd:Genoa", "amd:Turin"). Exit code 0: all is
there. 1: something could not be fetched. 2: misuse.`, Example: "  ashlar collateral fetch /var/lib/ashlar/collateral amd intel",
		RunE: func(cmd *cobra.Command, args []string) error { return o.fetch(cmd, args[0], args[1:]) }}
	warm := &cobra.Command{Use: "warm DIR KIND FILE...", Short: "Fetch what the appraisal of evidence needs", Args: cobra.MinimumNArgs(3),
		Long: `Appraises evidence to have what it needs fetched, and lists that. Whether the
evidence holds is not its matter. Exit code 0: done. 1: a file of the cache is
damaged. 2: misuse.`, Example: "  ashlar collateral warm /var/lib/ashlar/collateral sev-snp report.bin",
		RunE: func(cmd *cobra.Command, args []string) error { return o.warm(cmd, args[0], args[1], args[2:]) }}
	refresh := &cobra.Command{Use: "refresh DIR", Short: "Fetch again what is due, ahead of its end; run it daily", Args: cobra.ExactArgs(1),
		Long: `Fetches again what is in the last third of its life, and each list once a day.
Exit code 0: all that was due is there. 1: something could not be fetched, with
the reason; what is kept stays. 2: misuse.`, Example: "  ashlar collateral refresh /var/lib/ashlar/collateral",
		RunE: func(cmd *cobra.Command, args []string) error { return o.refresh(cmd, args[0]) }}
	for _, c := range []*cobra.Command{list, check, fetch, warm, refresh} {
		c.Flags().BoolVar(&o.json, "json", false, "write JSON")
		cmd.AddCommand(c)
	}
	for _, c := range []*cobra.Command{fetch, warm, refresh} {
		c.Flags().DurationVar(&o.wait, "wait", 2*time.Minute, "wait so long for services that want no requests now")
		c.Flags().StringArrayVar(&o.mirrors, "mirror", nil, "ask another service in a maker's place, as `HOST=URL`; may be given again")
	}
	return cmd
}

// openCollateral opens the cache in a directory.
func openCollateral(dir string, online bool, mirrors []string) (*collateral.Cache, error) {
	o := collateral.Options{Offline: !online, Mirrors: map[string]string{}}
	for _, m := range mirrors {
		host, url, ok := strings.Cut(m, "=")
		if !ok || host == "" || !strings.Contains(url, "://") {
			return nil, fmt.Errorf("--mirror %q is not HOST=URL", m)
		}
		o.Mirrors[host] = url
	}
	return collateral.Open(dir, o)
}

func (o *collateralOptions) list(cmd *cobra.Command, dir string) error {
	c, err := openCollateral(dir, false, nil)
	if err != nil {
		return err
	}
	items, damaged := c.List()
	if err := o.write(cmd.OutOrStdout(), items); err != nil {
		return err
	}
	return refuseErrors(damaged)
}

// write lists items for people or for programs.
func (o *collateralOptions) write(w io.Writer, items []*collateral.Item) error {
	if o.json {
		return writeJSON(w, append([]*collateral.Item{}, items...))
	}
	for _, i := range items {
		if _, err := fmt.Fprintf(w, "%s  fetched %s, good until %s\n    %s\n", plain(i.What),
			i.Fetched.Format(time.DateOnly), i.Expires.Format(time.DateOnly), plain(i.URL)); err != nil {
			return err
		}
	}
	return nil
}

func (o *collateralOptions) check(cmd *cobra.Command, dir string) error {
	c, err := openCollateral(dir, false, nil)
	if err != nil {
		return err
	}
	warnings := c.Check(time.Duration(o.within) * 24 * time.Hour)
	if o.json {
		if err := writeJSON(cmd.OutOrStdout(), append([]collateral.Warning{}, warnings...)); err != nil {
			return err
		}
	}
	var list []string
	for _, w := range warnings {
		list = append(list, w.Why)
	}
	if len(list) > 0 {
		return refuse(list...)
	}
	return nil
}

func refuseErrors(errs []error) error {
	var list []string
	for _, err := range errs {
		list = append(list, err.Error())
	}
	if len(list) > 0 {
		return refuse(list...)
	}
	return nil
}

// needsOf gives what a maker publishes for all machines.
func needsOf(what string) ([]collateral.Need, error) {
	var list []collateral.Need
	lines := []string{"Milan", "Genoa", "Turin"}
	switch maker, line, one := strings.Cut(what, ":"); {
	case maker == "amd":
		for _, l := range lines {
			if one && l != line {
				continue
			}
			for _, s := range []collateral.Signer{collateral.VCEK, collateral.VLEK} {
				list = append(list, collateral.AMDChain(l, s), collateral.AMDCRL(l, s))
			}
		}
	case what == "intel":
		list = []collateral.Need{collateral.IntelRootCRL(), collateral.IntelPCKCRL("platform"), collateral.IntelPCKCRL("processor"),
			collateral.IntelQEIdentity(collateral.SGX), collateral.IntelQEIdentity(collateral.TDX)}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("nothing is known of %q: it is amd, intel, or one of amd:%s", what, strings.Join(lines, ", amd:"))
	}
	return list, nil
}

func (o *collateralOptions) fetch(cmd *cobra.Command, dir string, what []string) error {
	var needs []collateral.Need
	for _, w := range what {
		list, err := needsOf(w)
		if err != nil {
			return err
		}
		needs = append(needs, list...)
	}
	c, err := openCollateral(dir, true, o.mirrors)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), o.wait)
	defer cancel()
	var items []*collateral.Item
	var failed []error
	for _, n := range needs {
		i, err := c.Fetch(ctx, n)
		switch {
		case err != nil:
			failed = append(failed, err)
			continue
		case i.Stale != nil:
			failed = append(failed, fmt.Errorf("%s could not be fetched again: %w", i.What, i.Stale))
		}
		items = append(items, i)
	}
	if err := o.write(cmd.OutOrStdout(), items); err != nil {
		return err
	}
	return refuseErrors(failed)
}

// warm appraises with the cache, which then has what was asked for. What the
// appraisal says of the evidence is not its matter.
func (o *collateralOptions) warm(cmd *cobra.Command, dir, name string, files []string) error {
	kind := verifier.FindKind(name)
	if kind == nil {
		return fmt.Errorf("there is no kind %q: choose one of %s", name, kindList())
	}
	c, err := openCollateral(dir, true, o.mirrors)
	if err != nil {
		return err
	}
	in := &scheme.Input{Collateral: c, Time: time.Now()}
	for _, f := range files {
		b, err := readInput(cmd, f, maxEvidenceFile)
		if err != nil {
			return err
		}
		in.Files = append(in.Files, scheme.File{Name: f, Data: b})
	}
	before, _ := c.List()
	known := map[string]time.Time{}
	for _, i := range before {
		known[i.URL] = i.Fetched
	}
	if _, err := kind.Appraise(in); err != nil {
		return err
	}
	after, damaged := c.List()
	var fresh []*collateral.Item
	for _, i := range after {
		if !i.Fetched.Equal(known[i.URL]) {
			fresh = append(fresh, i)
		}
	}
	if err := o.write(cmd.OutOrStdout(), fresh); err != nil {
		return err
	}
	return refuseErrors(damaged)
}

func (o *collateralOptions) refresh(cmd *cobra.Command, dir string) error {
	c, err := openCollateral(dir, true, o.mirrors)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), o.wait)
	defer cancel()
	fetched, failed := c.Refresh(ctx)
	if err := o.write(cmd.OutOrStdout(), fetched); err != nil {
		return err
	}
	return refuseErrors(failed)
}
