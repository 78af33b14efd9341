package main

const certUsage = `Usage: swtpm_cert --tpm2 [options]

Makes the certificate of a TPM's key, of which it needs the public half alone.

What is certified, one of:
  --pubkey FILE              a public key in PEM
  --modulus HEX [--exponent N]
                             an RSA key; the exponent is 65537 unless given
  --ecc-x HEX --ecc-y HEX [--ecc-curveid secp256r1|secp384r1|secp521r1]
                             a point; on secp256r1 unless given

By whom:
  --signkey FILE|pkcs11:URI  the CA's key in PEM, which may be encrypted, or on a
                             token, with its PIN in SWTPM_PKCS11_PIN
  --signkey-password TEXT    its password
  --signkey-pwd pass:TEXT|file:PATH|fd:N|env:NAME
                             its password, where others do not see it
  --issuercert FILE          the CA's certificate in PEM

What it says:
  --type ek|platform|iak|idevid
                             an endorsement key's certificate unless given
  --subject NAME             such as C=US,ST=NY,L=NewYork
  --serial N, --days N       1 and 365 unless given; -1 days: it does not expire
  --tpm-manufacturer, --tpm-model, --tpm-version TEXT
  --tpm-spec-family TEXT, --tpm-spec-level N, --tpm-spec-revision N
                             for ek
  --platform-manufacturer, --platform-model, --platform-version TEXT
                             for platform
  --tpm-serial-num TEXT      for iak and idevid
  --allow-signing            the key signs
  --decryption               the key decrypts as well
  --tpm2                     needed: there is no TPM 1.2

Where it goes:
  --out-cert FILE            standard output unless given
  --pem                      PEM, not DER
  --add-header               with the header of a PC Client TPM 1.2's NV before it

  --print-capabilities, --version, --help

Exit codes: 0 it is made; 1 it is not, with the reason on standard error.
`

const localcaUsage = `Usage: swtpm_localca --type ek --tpm2 --ek KEY [options]

Makes certificates by this host's own CA, which it makes itself when it is first
needed. swtpm_setup calls it.

  --type ek|platform|iak|idevid
  --ek KEY, --key KEY        an RSA key's modulus in hexadecimal, or
                             x=HEX,y=HEX[,id=secp384r1]
  --dir DIR                  where DIR/ek.cert, platform.cert, … goes; . unless
                             given
  --vmid NAME                the machine, as the certificate's subject
  --tpm-spec-family TEXT, --tpm-spec-level N, --tpm-spec-revision N
  --tpm-manufacturer, --tpm-model, --tpm-version TEXT
  --tpm-serial-num TEXT      for iak and idevid
  --allow-signing, --decryption
  --tpm2                     needed: there is no TPM 1.2
  --configfile FILE          where the CA is; ~/.config/swtpm-localca.conf unless
                             given, or /etc/swtpm-localca.conf
  --optsfile FILE            more options of swtpm_cert, for every certificate;
                             swtpm-localca.options in the same places
  --logfile FILE             what it does and why it fails goes there

  --print-capabilities, --version, --help, -h

SWTPM_ROOTCA_PASSWORD in the environment is the password of the root CA's key
that it makes.

Exit codes: 0 it is made; 1 it is not, with the reason on standard error or in
the log file.
`
