// Command man makes the manual pages from what the programs say to --help, so that
// nothing is said twice; those of the configuration files from texts of the same form.
//
//	go run ./packaging/man -bin bin -out bin/man -version 1.2.3 -date 2026-11-28
//
// Exit codes: 0 they are made; 1 they are not, with the reason on standard error.
package main

import (
	"embed"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	bin := flag.String("bin", "bin", "the programs are in `DIR`")
	out := flag.String("out", "bin/man", "the pages go to `DIR`")
	version := flag.String("version", "", "the `TEXT` at the foot of each page")
	date := flag.String("date", "", "and the `DATE`")
	flag.Parse()
	if err := writePages(*bin, *out, *version, *date); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func writePages(bin, out, version, date string) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for _, p := range pages() {
		text, err := p.render(bin, version, date)
		if err != nil {
			return fmt.Errorf("%s: %w", p.file(), err)
		}
		if err := os.WriteFile(filepath.Join(out, p.file()), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// A page is one manual page.
type page struct {
	name    string
	section int
	says    string
	help    [][]string // commands that print help; none: the text beside this program
	tree    bool       // the command has verbs with help of their own
}

func (p *page) file() string { return fmt.Sprintf("%s.%d", p.name, p.section) }

// pages lists all of them.
func pages() []page {
	return []page{
		{name: "swtpm", section: 8, says: "a TPM 2.0 for a virtual machine",
			help: [][]string{{"swtpm", "socket", "--help"}, {"swtpm", "chardev", "--help"}}},
		{name: "swtpm_ioctl", section: 8, says: "control a swtpm that runs", help: [][]string{{"swtpm_ioctl", "--help"}}},
		{name: "swtpm_bios", section: 8, says: "start a TPM as firmware does", help: [][]string{{"swtpm_bios", "-h"}}},
		{name: "swtpm_setup", section: 8, says: "make a TPM with its keys and certificates", help: [][]string{{"swtpm_setup", "--help"}}},
		{name: "swtpm_localca", section: 8, says: "make certificates by the CA of this host", help: [][]string{{"swtpm_localca", "--help"}}},
		{name: "swtpm_cert", section: 8, says: "make the certificate of a TPM's key", help: [][]string{{"swtpm_cert", "--help"}}},
		{name: "ashlar", section: 1, says: "TPMs for virtual machines, and proof of what these run", help: [][]string{{"ashlar"}}, tree: true},
		{name: "swtpm_setup.conf", section: 5, says: "configuration of swtpm_setup"},
		{name: "swtpm-localca.conf", section: 5, says: "where the CA of swtpm_localca is"},
		{name: "swtpm-localca.options", section: 5, says: "what certificates of swtpm_localca say besides"},
	}
}

//go:embed *.5.txt
var texts embed.FS

// read gives the help texts that a page is made from.
func (p *page) read(bin string) ([]help, error) {
	if p.help == nil {
		text, err := texts.ReadFile(p.file() + ".txt")
		return []help{parseHelp(string(text))}, err
	}
	var list []help
	for _, command := range p.help {
		h, err := ask(bin, command)
		if err != nil {
			return nil, err
		}
		list = append(list, h)
	}
	return list, nil
}

// ask has a program print its help.
func ask(bin string, command []string) (help, error) {
	cmd := exec.Command(filepath.Join(bin, command[0]), command[1:]...)
	cmd.Env = []string{"HOME=/nonexistent"} // no path of this user is to get into a page
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return help{}, fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, errs.String())
	}
	return parseHelp(string(out)), nil
}

// render makes the page, for man(7).
func (p *page) render(bin, version, date string) (string, error) {
	list, err := p.read(bin)
	if err != nil {
		return "", err
	}
	var r roff
	r.WriteString(".\\\" Made by packaging/man of the project: change the source, which is the program's help.\n")
	r.macro("TH", strings.ToUpper(p.name), fmt.Sprint(p.section), date, "Ashlar "+version)
	r.WriteString(".ad l\n") // long options leave lines that cannot be filled
	r.macro("SH", "NAME")
	fmt.Fprintf(&r, "%s \\- %s\n", escape(p.name), escape(p.says))
	if p.tree {
		err = r.verbs(bin, p.help[0], list[0])
	} else {
		r.helps(list, map[bool]string{true: "ENTRIES", false: "OPTIONS"}[p.section == 5])
	}
	r.macro("SH", "SEE ALSO")
	for _, other := range pages() {
		if other.name != p.name {
			fmt.Fprintf(&r, ".BR %s (%d)\n", escape(other.name), other.section)
		}
	}
	return r.String(), err
}
