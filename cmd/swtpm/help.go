package main

// usages are the help texts of the two interfaces.
var usages = map[string]string{
	"socket":  socketUsage + ctrlUsage + serverUsage + sharedUsage + socketExamples + exitUsage,
	"chardev": chardevUsage + ctrlUsage + "\n" + sharedUsage + chardevExample + exitUsage,
}

const socketUsage = `Usage: swtpm socket --tpm2 --tpmstate dir=DIR [options]

A TPM 2.0 for a virtual machine, reached over sockets as QEMU, libvirt and
tpm2-tools do it.

Where it is reached:
`

const chardevUsage = `Usage: swtpm chardev --tpm2 --tpmstate dir=DIR [options]

A TPM 2.0 behind a character device, as containers have it.

Where it is reached:
  --vtpm-proxy     a new device /dev/tpmN by the kernel's module tpm_vtpm_proxy,
                   whose name is printed; for root. Startup is sent, and the
                   kernel may set the locality
  -c, --chardev PATH
  -f, --fd N       a device that is open already, such as the proxy's end
`

const ctrlUsage = `  --ctrl type=unixio,path=PATH[,mode=0770][,uid=U][,gid=G][,terminate]
  --ctrl type=unixio,fd=N|clientfd=N[,terminate]
  --ctrl type=tcp,port=P[,bindaddr=ADDR[,ifname=IF]][,terminate]  or fd=N
                   the control channel, which QEMU needs
`

const serverUsage = `  --server type=tcp,port=P[,bindaddr=ADDR[,ifname=IF]][,disconnect]
  --server type=unixio,path=PATH[,mode=0770][,uid=U][,gid=G]
  --server type=tcp|unixio,fd=N
                   the data channel; disconnect ends a connection after one
                   command, fd is a connection and ends the TPM with it
  --server type=mssim,port=P[,bindaddr=ADDR]
                   the TCG simulator's protocol: commands on P, platform on P+1
  -p, --port P     the same as --server type=tcp,port=P,disconnect
  -f, --fd N       the same as --server type=tcp,fd=N
  -t, --terminate  end when the data channel's client is gone

`

const sharedUsage = `What it keeps:
  --tpmstate dir=DIR[,mode=0640][,lock][,backup][,fsync]  or  backend-uri=dir://DIR
                   the directory of the state, or $TPM_PATH; a new TPM is made
                   where there is none. Each change is on the disk before its
                   command is answered, with fsync or without. backup keeps a
                   second file, in the place of which a lost or damaged one is
                   made; each change then takes twice the time
  --tpmstate backend-uri=file://FILE[,mode=0640][,lock]
                   one file for all of the state, or a disk of 3 MB; locked only
                   where lock is given
  --profile name=NAME|profile=JSON|file=PATH|fd=N[,remove-disabled=check|fips-host]
                   what a new TPM shows, for ever: null (libtpms 0.9, when none
                   is given), default-v1 and default-v2 (libtpms 0.10 and 0.11),
                   ashlar-v1 (all there is), custom with commands, algorithms
                   and attributes of one's own. remove-disabled takes out of a
                   custom one what a host in FIPS mode forbids
  --key file=PATH|fd=N[,format=hex|binary][,mode=aes-cbc|aes-256-cbc][,remove]
  --key pwdfile=PATH|pwdfd=N[,mode=aes-cbc|aes-256-cbc][,kdf=pbkdf2|sha512][,remove]
                   encrypts the state under a key of 128 or 256 bits, or under a
                   passphrase; one that is there must be encrypted under it
                   already: 'ashlar tpm rekey' does that. mode is how long a key
                   is; kdf and it tell how swtpm's state is read to take it over
  --migration-key  with the same parameters: encrypts the states that a migration
                   or a snapshot carries
  --migration incoming,release-lock-outgoing
                   for a directory that two hosts share

How it behaves:
  --tpm2           needed: there is no TPM 1.2
  --flags not-need-init,startup-clear|startup-state|startup-none,disable-auto-shutdown
                   power on at once, send Startup, send no Shutdown at the end
  --locality reject-locality-4,allow-set-locality
  -d, --daemon     go to the background when ready
  -R, --chroot DIR
                   the root, for root, of all paths in the other options, and of the
                   users that --runas knows
  -r, --runas USER
                   the user, by name or number, that it becomes before it opens or
                   makes anything
  --pid file=PATH|fd=N
  --log file=PATH|fd=N[,level=N][,prefix=TEXT][,truncate]
                   file=- is silent; levels: 1 errors, 2 more, 5 all
  --pcap file=PATH|fd=N[,mode=0640][,truncate][,checksums]
                   commands and responses for Wireshark; what is secret in them
                   is there too
  --seccomp action=kill|log|none
                   for system calls that a TPM does not make: end (as when it is
                   not given), log and go on, no filter

What it tells:
  --print-capabilities   its features, as JSON
  --print-states         the saved states in --tpmstate, as JSON
  --print-profiles       the profiles, as JSON
  --print-info FLAGS     about the TPM, as JSON: 1 specification, 2 make, 4 keys,
                         8 algorithms, 16 commands, 32 its profile, 64 all
                         profiles, 128 attributes
  --version, -h, --help

`

const socketExamples = `Examples:
  swtpm socket --tpm2 --tpmstate dir=vm1 --ctrl type=unixio,path=vm1.sock
      for QEMU: -chardev socket,id=t,path=vm1.sock
                -tpmdev emulator,id=t0,chardev=t -device tpm-crb,tpmdev=t0
  swtpm socket --tpm2 --tpmstate dir=t --flags not-need-init,startup-clear \
      --server type=tcp,port=2321 --ctrl type=tcp,port=2322
      for tpm2-tools: export TPM2TOOLS_TCTI=swtpm:port=2321
  swtpm socket --tpm2 --tpmstate dir=t --server type=mssim,port=2321
      for tpm2-tools: export TPM2TOOLS_TCTI=mssim:port=2321

`

const chardevExample = `Example:
  swtpm chardev --tpm2 --tpmstate dir=t --vtpm-proxy
      New TPM device: /dev/tpm1 (major/minor = 10/224)

`

const exitUsage = `Exit codes: 0 ended in order, or printed what was asked; 1 anything else, with
one line on standard error that says why.
`
