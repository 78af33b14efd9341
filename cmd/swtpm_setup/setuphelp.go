package main

// setupUsage is for Printf: the configuration file that is read.
const setupUsage = `Usage: swtpm_setup --tpm2 --tpm-state DIR [options]

Makes a TPM as its maker would, with its keys and their certificates, so that
'swtpm socket --tpm2 --tpmstate dir=DIR' starts it. Nothing is written before all
is made: after an error there is no TPM, or the one that there was.

The TPM:
  --tpm2                     needed: there is no TPM 1.2
  --tpm-state DIR            where it will be, or dir://DIR, or file://FILE for one
                             file; also --tpmstate
  --overwrite                lose the TPM that is there
  --not-overwrite            keep the TPM that is there, and end with exit code 0
  --pcr-banks LIST           the active ones of sha1,sha256,sha384,sha512; '-' for
                             all; as configured, or sha256, unless given
  --pwdfile FILE, --pwdfile-fd N
                             encrypt its state under a passphrase
  --keyfile FILE, --keyfile-fd N
                             or under a key: 32 hexadecimal digits
  --cipher aes-128-cbc|aes-256-cbc
                             with the latter the key has 64
  --reconfigure              change the active banks of the TPM that is there
  --profile JSON             what it shows, for ever; null unless given or configured
  --profile-name NAME        one by name: a file NAME.json of the configured folder
                             or of /usr/share/swtpm/profiles, or a built-in one;
                             with local:, distro: or builtin: before it, that alone
  --profile-file FILE, --profile-file-fd N
  --profile-remove-disabled check|fips-host
                             take out of a custom profile what FIPS forbids

Its keys:
  --createek                 two endorsement keys: RSA 2048 and ECC P-384
  --rsa-keysize N|max        of the first: 2048, 3072 or 4096
  --ek1keyalgo, --ek2keyalgo KIND
                             other ones: rsa2048, rsa3072, rsa4096, secp256r1,
                             secp384r1, secp521r1
  --allow-signing            EKs that sign, and with --decryption decrypt as well:
                             few programs know such keys
  --create-spk               a storage key at 0x81000001, with --ecc ECC P-384
  --iakkeyalgo, --idevidkeyalgo KIND
                             an attestation and an identity key, with certificates

Its certificates:
  --create-ek-cert           of each EK, in NV; makes the EKs as well
  --create-platform-cert     of the platform
  --lock-nvram               lock what is written in NV
  --write-ek-cert-files DIR  copies in files
  --vmid ID                  a name for the machine, for the certificates

How it is done:
  --config FILE              unless given, %s
  --logfile FILE             what it says; standard output unless given
  --runas USER
  --display                  at the end, list the TPM's keys and NV

  --create-config-files [overwrite,root,skip-if-exist]
                             make this user's configuration
  --print-capabilities, --print-profiles, --version, -h, --help

Exit codes: 0 it is made, or is there and was not to be overwritten; 1 it is not,
with the reason on standard error, or in the log file.
`
