//! Host certificates (OpenSSH's PROTOCOL.certkeys), read and verified here.
//!
//! Of a certificate libssh2 reads the type, the nonce and the key inside, and checks the server's signature of the key
//! exchange with that key (`hostkey.c`, the `init_cert` functions, each followed by the plain type's `sig_verify`): the
//! server has the private half. Who signed the certificate, for whom and until when it never looks at.

use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey, EcPoint};
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Public};
use openssl::rsa::Rsa;
use openssl::sign::Verifier;
use wildmatch::WildMatch;

use super::wire::{number, put_string, string};

/// What the type of a certificate ends in.
pub(super) const SUFFIX: &str = "-cert-v01@openssh.com";

/// The type number of a host's certificate.
const HOST: u32 = 2;

/// The shortest RSA key that OpenSSH takes (`RequiredRSASize`), in bytes.
const SHORTEST_RSA: u32 = 1024 / 8;

/// A host's certificate.
#[derive(Debug)]
pub(super) struct HostCertificate<'a> {
    /// The key that it is for, as SSH sends a plain key.
    pub(super) key: Vec<u8>,
    /// The public key of the authority that signed it.
    pub(super) authority: &'a [u8],
    kind: u32,
    principals: Vec<&'a [u8]>,
    valid_after: u64,
    valid_before: u64,
    critical_options: &'a [u8],
    /// What the signature is of: everything before it.
    signed: &'a [u8],
    signature: &'a [u8],
}

impl<'a> HostCertificate<'a> {
    /// Reads a certificate of a type that fleet asks for; `None` when it is malformed.
    pub(super) fn parse(blob: &'a [u8]) -> Option<Self> {
        let mut rest = blob;
        let kind = str::from_utf8(string(&mut rest)?).ok()?.strip_suffix(SUFFIX)?;
        let _nonce = string(&mut rest)?;
        let from_key = rest;
        match kind {
            "ssh-ed25519" => string(&mut rest)?,
            "ssh-rsa" => string(&mut rest).and_then(|_| string(&mut rest))?,
            _ => {
                let curve = kind.strip_prefix("ecdsa-sha2-")?;
                string(&mut rest).filter(|named| *named == curve.as_bytes())?;
                string(&mut rest)?
            }
        };
        let mut key = Vec::new();
        put_string(&mut key, kind.as_bytes());
        key.extend(from_key.get(..from_key.len() - rest.len())?);
        let _serial = long(&mut rest)?;
        let kind = number(&mut rest)?;
        let _key_id = string(&mut rest)?;
        let principals = fields(string(&mut rest)?)?;
        let (valid_after, valid_before) = (long(&mut rest)?, long(&mut rest)?);
        let critical_options = string(&mut rest)?;
        let _extensions = string(&mut rest)?;
        let _reserved = string(&mut rest)?;
        let authority = string(&mut rest)?;
        let signed = blob.get(..blob.len() - rest.len())?;
        let signature = string(&mut rest)?;
        rest.is_empty().then_some(Self {
            key,
            authority,
            kind,
            principals,
            valid_after,
            valid_before,
            critical_options,
            signed,
            signature,
        })
    }

    /// Checks everything but whether the authority is trusted: the signature, that it is a host's, valid at `now` (seconds
    /// of Unix time) and for `name`, and that no option restricts it.
    ///
    /// As OpenSSH 10.3: a principal may be a pattern, and without principals it is nobody's.
    ///
    /// # Errors
    /// Which check failed, in words that follow the certificate.
    pub(super) fn check(&self, name: &str, now: u64) -> Result<(), String> {
        verify(self.authority, self.signed, self.signature)?;
        if self.kind != HOST {
            return Err("is not a host's".to_owned());
        }
        if now < self.valid_after {
            return Err(format!("is not valid before {}", date(self.valid_after)));
        }
        if now >= self.valid_before {
            return Err(format!("expired at {}", date(self.valid_before)));
        }
        if !self.critical_options.is_empty() {
            return Err("has an option that no host's certificate may have".to_owned());
        }
        if self.principals.is_empty() {
            return Err("names no host".to_owned());
        }
        if !self.principals.iter().any(|principal| is_named(principal, name)) {
            let names: Vec<_> = self.principals.iter().map(|name| String::from_utf8_lossy(name)).collect();
            return Err(format!("is for {}, not for {name}", names.join(", ")));
        }
        Ok(())
    }
}

fn is_named(principal: &[u8], name: &str) -> bool {
    let pattern = str::from_utf8(principal).map(str::to_ascii_lowercase);
    pattern.is_ok_and(|pattern| !pattern.is_empty() && WildMatch::new(&pattern).matches(&name.to_ascii_lowercase()))
}

fn date(seconds: u64) -> String {
    let stamp = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    stamp.map_or_else(|| "the end of time".to_owned(), |stamp| stamp.to_string())
}

fn long(rest: &mut &[u8]) -> Option<u64> {
    Some(u64::from(number(rest)?) << 32 | u64::from(number(rest)?))
}

/// Splits what consists of strings only.
fn fields(mut list: &[u8]) -> Option<Vec<&[u8]>> {
    let mut strings = Vec::new();
    while !list.is_empty() {
        strings.push(string(&mut list)?);
    }
    Some(strings)
}

/// Verifies an authority's signature (RFC 4253 section 6.6, RFC 5656, RFC 8332, RFC 8709). SHA-1 is refused, as OpenSSH's
/// `CASignatureAlgorithms` does since 8.2.
fn verify(authority: &[u8], signed: &[u8], signature: &[u8]) -> Result<(), String> {
    let malformed = || "has a malformed signature".to_owned();
    let (key, signature) = (fields(authority).ok_or_else(malformed)?, fields(signature).ok_or_else(malformed)?);
    let ([key_type, key @ ..], [algorithm, bytes]) = (&*key, &*signature) else { return Err(malformed()) };
    let is_good = match (*key_type, *algorithm, key) {
        (b"ssh-ed25519", b"ssh-ed25519", [point]) => ed25519(point, signed, bytes),
        (b"ssh-rsa", b"rsa-sha2-256", [e, n]) => rsa(e, n, MessageDigest::sha256(), signed, bytes),
        (b"ssh-rsa", b"rsa-sha2-512", [e, n]) => rsa(e, n, MessageDigest::sha512(), signed, bytes),
        (b"ssh-rsa", b"ssh-rsa", _) => return Err("is signed with SHA-1".to_owned()),
        (kind, algorithm, [curve, point]) if kind == algorithm && kind.strip_prefix(b"ecdsa-sha2-") == Some(curve) => {
            ecdsa(curve, point, signed, bytes)
        }
        _ => return Err("is signed in a way that is not known".to_owned()),
    };
    match is_good {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err("has a signature that is not its authority's".to_owned()),
    }
}

fn ed25519(point: &[u8], signed: &[u8], signature: &[u8]) -> Result<bool, ErrorStack> {
    let key = PKey::public_key_from_raw_bytes(point, Id::ED25519)?;
    Verifier::new_without_digest(&key)?.verify_oneshot(signature, signed)
}

fn rsa(e: &[u8], n: &[u8], digest: MessageDigest, signed: &[u8], signature: &[u8]) -> Result<bool, ErrorStack> {
    let key = Rsa::from_public_components(BigNum::from_slice(n)?, BigNum::from_slice(e)?)?;
    if key.size() < SHORTEST_RSA {
        return Ok(false);
    }
    hashed(&PKey::from_rsa(key)?, digest, signed, signature)
}

fn ecdsa(curve: &[u8], point: &[u8], signed: &[u8], signature: &[u8]) -> Result<bool, ErrorStack> {
    let (curve, digest) = match curve {
        b"nistp256" => (Nid::X9_62_PRIME256V1, MessageDigest::sha256()),
        b"nistp384" => (Nid::SECP384R1, MessageDigest::sha384()),
        b"nistp521" => (Nid::SECP521R1, MessageDigest::sha512()),
        _ => return Ok(false),
    };
    let Some([r, s]) = fields(signature).and_then(|fields| <[&[u8]; 2]>::try_from(fields).ok()) else {
        return Ok(false);
    };
    let group = EcGroup::from_curve_name(curve)?;
    let point = EcPoint::from_bytes(&group, point, &mut *BigNumContext::new()?)?;
    let key = EcKey::from_public_key(&group, &point)?;
    key.check_key()?;
    let signature = EcdsaSig::from_private_components(BigNum::from_slice(r)?, BigNum::from_slice(s)?)?.to_der()?;
    hashed(&PKey::from_ec_key(key)?, digest, signed, &signature)
}

fn hashed(key: &PKey<Public>, digest: MessageDigest, signed: &[u8], signature: &[u8]) -> Result<bool, ErrorStack> {
    let mut verifier = Verifier::new(digest, key)?;
    verifier.update(signed)?;
    verifier.verify(signature)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn keygen(dir: &Path, args: &[&str]) {
        let done = Command::new("ssh-keygen").arg("-q").args(args).current_dir(dir).status().unwrap();
        assert!(done.success(), "{args:?}");
    }

    fn blob(path: &Path) -> Vec<u8> {
        let line = fs::read_to_string(path).unwrap();
        STANDARD.decode(line.split(' ').nth(1).unwrap()).unwrap()
    }

    /// Signs a new key of `kind` by an authority of `ca`, with these arguments of `ssh-keygen -s`.
    fn signed(kind: &[&str], ca: &[&str], args: &[&str]) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        keygen(dir.path(), &[&["-N", "", "-f", "ca", "-t"], ca].concat());
        keygen(dir.path(), &[&["-N", "", "-f", "key", "-t"], kind].concat());
        keygen(dir.path(), &[&["-s", "ca", "-I", "id"], args, &["key.pub"]].concat());
        let path = |name: &str| dir.path().join(name);
        (blob(&path("key-cert.pub")), blob(&path("key.pub")), blob(&path("ca.pub")))
    }

    fn check(blob: &[u8], name: &str) -> Result<(), String> {
        HostCertificate::parse(blob).unwrap().check(name, NOW)
    }

    #[test]
    fn keys_and_authorities_of_every_type_are_verified() {
        let types: [&[&str]; 5] = [
            &["ed25519"],
            &["ecdsa", "-b", "256"],
            &["ecdsa", "-b", "384"],
            &["ecdsa", "-b", "521"],
            &["rsa", "-b", "2048"],
        ];
        for (kind, ca) in types.iter().zip(types.iter().cycle().skip(1)).chain(types.iter().zip(types.iter())) {
            let (blob, key, authority) = signed(kind, ca, &["-h", "-n", "a.example"]);
            let certificate = HostCertificate::parse(&blob).unwrap();
            assert_eq!((&certificate.key, certificate.authority), (&key, &*authority), "{kind:?}");
            assert_eq!(check(&blob, "a.example"), Ok(()), "{kind:?} by {ca:?}");
            // Any bit of it counts: what was signed, and the signature.
            for at in [40, blob.len() / 2, blob.len() - 8] {
                let mut changed = blob.clone();
                changed[at] ^= 1;
                let is_good = HostCertificate::parse(&changed)
                    .is_some_and(|certificate| certificate.check("a.example", NOW).is_ok());
                assert!(!is_good, "{kind:?} by {ca:?}, byte {at}");
            }
            for len in 0..blob.len() {
                assert!(HostCertificate::parse(&blob[..len]).is_none(), "cut to {len}");
            }
        }
    }

    #[test]
    fn each_check_says_what_is_wrong() {
        let of = |args: &[&str]| check(&signed(&["ed25519"], &["ed25519"], args).0, "web1.example");
        assert_eq!(of(&["-h", "-n", "a,web1.example"]), Ok(()));
        assert_eq!(of(&["-h", "-n", "a,WEB?.ex*"]), Ok(()));
        assert_eq!(of(&["-h", "-n", "a,b"]), Err("is for a, b, not for web1.example".to_owned()));
        assert_eq!(of(&["-h"]), Err("names no host".to_owned()));
        assert_eq!(of(&["-n", "web1.example"]), Err("is not a host's".to_owned()));
        let dated = |dates: &str| of(&["-h", "-n", "*", "-V", dates]);
        assert_eq!(dated("20200101000000Z:20210101000000Z"), Err("expired at 2021-01-01T00:00:00Z".to_owned()));
        assert_eq!(
            dated("20330101000000Z:20340101000000Z"),
            Err("is not valid before 2033-01-01T00:00:00Z".to_owned())
        );
        assert_eq!(dated("20200101000000Z:20340101000000Z"), Ok(()));
        let restricted = of(&["-h", "-n", "*", "-O", "critical:be-careful@example.com=very"]);
        assert_eq!(restricted, Err("has an option that no host's certificate may have".to_owned()));
    }

    #[test]
    fn a_signature_by_sha_1_is_refused() {
        let (blob, ..) = signed(&["ed25519"], &["rsa", "-b", "2048"], &["-h", "-n", "*"]);
        assert_eq!(check(&blob, "a"), Ok(()));
        let at = blob.windows(12).rposition(|window| window == b"rsa-sha2-512").unwrap();
        let mut old = blob[..at - 8].to_vec();
        let mut inner = Vec::new();
        put_string(&mut inner, b"ssh-rsa");
        inner.extend(&blob[at + 12..]);
        put_string(&mut old, &inner);
        assert_eq!(check(&old, "a"), Err("is signed with SHA-1".to_owned()));
    }
}
