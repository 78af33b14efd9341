package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ashlar-cloud/ashlar/tpm"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

func newTPMCommandsCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "commands",
		Short: "List the commands of the specification and which are supported",
		Long: `Lists every command of the TPM 2.0 Library Specification up to version 1.85: its
code, since which version it is there, whether it is supported and why not, which
profiles show it, what authorizes it, and which parameters a session can encrypt.

Exit code 0: listed. 2: misuse.`,
		Example: "  ashlar tpm commands\n  ashlar tpm commands --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), commandList())
			}
			return writeCommands(cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write a JSON array with an object for each command")
	return cmd
}

// commandHeads are the columns of the table.
var commandHeads = [...]string{"Code", "Command", "Since", "Supported", "Profiles", "Authorization", "Encrypted", "Attributes"}

// commandRow is a command's row of the table.
func commandRow(c *tpm.Command) [len(commandHeads)]string {
	row := [len(commandHeads)]string{fmt.Sprintf("0x%03X", uint32(c.CC)), c.CC.String(), c.Since}
	if c.NotSupported != "" {
		row[3] = "no: " + c.NotSupported
		return row
	}
	row[3] = "yes"
	row[4] = strings.Join(c.Profiles, ", ")
	if len(c.Profiles) == len(tpm.Profiles())-1 { // custom is not counted
		row[4] = "all"
	}
	var auth, encrypted []string
	for _, h := range c.Handles {
		if h.Role != "" {
			auth = append(auth, h.Name+" "+h.Role)
		}
	}
	if c.NoSessions {
		auth = append(auth, "no sessions")
	}
	if c.Decrypt {
		encrypted = append(encrypted, "command")
	}
	if c.Encrypt {
		encrypted = append(encrypted, "response")
	}
	row[5], row[6], row[7] = strings.Join(auth, ", "), strings.Join(encrypted, ", "), strings.Join(commandAttributes(c), ", ")
	return row
}

// commandAttributes are the set bits of TPMA_CC, by their names in Part 2, 8.9.
func commandAttributes(c *tpm.Command) (list []string) {
	for _, a := range [...]struct {
		name string
		bit  tpm2.CCAttributes
	}{{"nv", tpm2.CCAttrNV}, {"extensive", tpm2.CCAttrExtensive}, {"flushed", tpm2.CCAttrFlushed}, {"rHandle", tpm2.CCAttrRHandle}} {
		if c.Attributes&a.bit != 0 {
			list = append(list, a.name)
		}
	}
	return list
}

// writeCommands writes the table for people.
func writeCommands(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(commandHeads[:], "\t"))
	for _, c := range tpm.Specification() {
		row := commandRow(&c)
		fmt.Fprintln(w, strings.Join(row[:], "\t"))
	}
	return w.Flush()
}

// listedCommand is a command in JSON.
type listedCommand struct {
	Code         string         `json:"code"`
	Name         string         `json:"name"`
	Since        string         `json:"since"`
	Supported    bool           `json:"supported"`
	NotSupported string         `json:"notSupported,omitempty"` // why
	Profiles     []string       `json:"profiles,omitempty"`
	Handles      []listedHandle `json:"handles,omitempty"`
	NoSessions   bool           `json:"noSessions,omitempty"`
	Decrypt      bool           `json:"decrypt,omitempty"`
	Encrypt      bool           `json:"encrypt,omitempty"`
	Attributes   []string       `json:"attributes,omitempty"`
}

type listedHandle struct {
	Name string `json:"name"`
	Role string `json:"role,omitempty"`
}

// commandList is the table for a program.
func commandList() []listedCommand {
	all := tpm.Specification()
	list := make([]listedCommand, len(all))
	for i := range all {
		c := &all[i]
		list[i] = listedCommand{Code: fmt.Sprintf("0x%03x", uint32(c.CC)), Name: c.CC.String(), Since: c.Since,
			Supported: c.NotSupported == "", NotSupported: c.NotSupported, Profiles: c.Profiles,
			NoSessions: c.NoSessions, Decrypt: c.Decrypt, Encrypt: c.Encrypt, Attributes: commandAttributes(c)}
		for _, h := range c.Handles {
			list[i].Handles = append(list[i].Handles, listedHandle(h))
		}
	}
	return list
}
