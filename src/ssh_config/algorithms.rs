//! Lists of algorithms: what fleet has, and what a line such as `Ciphers -*-cbc` leaves of it.

use wildmatch::WildMatch;

/// The key exchange methods, best first. The first three need OpenSSL 3.5 or later.
pub(crate) const KEX: [&str; 12] = [
    "mlkem768x25519-sha256",
    "mlkem768nistp256-sha256",
    "mlkem1024nistp384-sha384",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group-exchange-sha256",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group18-sha512",
    "diffie-hellman-group14-sha256",
];

/// The algorithms of host keys, best first.
pub(crate) const HOST_KEYS: [&str; 6] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
];

/// The ciphers, best first.
pub(crate) const CIPHERS: [&str; 10] = [
    "chacha20-poly1305@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-gcm@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
    "aes256-cbc",
    "rijndael-cbc@lysator.liu.se",
    "aes192-cbc",
    "aes128-cbc",
];

/// The message authentication codes, best first.
pub(crate) const MACS: [&str; 4] =
    ["hmac-sha2-256", "hmac-sha2-256-etm@openssh.com", "hmac-sha2-512", "hmac-sha2-512-etm@openssh.com"];

/// The signatures to log in with.
pub(crate) const SIGNATURES: [&str; 16] = [
    "ssh-ed25519-cert-v01@openssh.com",
    "ecdsa-sha2-nistp256-cert-v01@openssh.com",
    "ecdsa-sha2-nistp384-cert-v01@openssh.com",
    "ecdsa-sha2-nistp521-cert-v01@openssh.com",
    "sk-ssh-ed25519-cert-v01@openssh.com",
    "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
    "rsa-sha2-512-cert-v01@openssh.com",
    "rsa-sha2-256-cert-v01@openssh.com",
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "rsa-sha2-512",
    "rsa-sha2-256",
];

/// Refuses what ssh refuses in every list: nothing, and a negation.
pub(super) fn check(list: &str) -> Result<(), String> {
    if list.starts_with('-') {
        return Ok(());
    }
    let names = list.strip_prefix(['+', '^']).unwrap_or(list);
    match names.split(',').find(|name| name.starts_with('!')) {
        _ if names.is_empty() => Err("a name is missing".to_owned()),
        Some(name) => Err(format!("\"{name}\" is no name")),
        None => Ok(()),
    }
}

/// Returns what a list leaves of what there is (kex.c: kex_assemble_names): `+` appends, `-` removes, `^` puts first, and
/// without them the list stands for itself. Names that there are not are passed over.
pub(crate) fn assemble<'a>(list: &str, built_in: &[&'a str], known: &[&'a str]) -> Vec<&'a str> {
    let is_among = |name: &str, patterns: &str| patterns.split(',').any(|it| WildMatch::new(it).matches(name));
    let picked = |names: &str| -> Vec<&'a str> {
        names
            .split(',')
            .flat_map(|pattern| known.iter().copied().filter(move |name| WildMatch::new(pattern).matches(name)))
            .collect()
    };
    let names: Vec<&str> = if let Some(names) = list.strip_prefix('-') {
        built_in.iter().copied().filter(|name| !is_among(name, names)).collect()
    } else if let Some(names) = list.strip_prefix('+') {
        [built_in.to_vec(), picked(names)].concat()
    } else if let Some(names) = list.strip_prefix('^') {
        [picked(names), built_in.to_vec()].concat()
    } else {
        picked(list)
    };
    let mut seen = std::collections::HashSet::new();
    names.into_iter().filter(|name| seen.insert(*name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_put_together_as_ssh_does() {
        let all = ["a-ctr", "b-ctr", "a-cbc", "x"];
        let built_in = ["a-ctr", "b-ctr", "a-cbc"];
        for (list, expected) in [
            ("b-ctr,unknown,a-ctr", "b-ctr,a-ctr"),
            ("+x,a-ctr", "a-ctr,b-ctr,a-cbc,x"),
            ("-*-cbc,b-*", "a-ctr"),
            ("^a-cbc,x", "a-cbc,x,a-ctr,b-ctr"),
            ("a-*", "a-ctr,a-cbc"),
            ("-*", ""),
            ("unknown", ""),
            ("+unknown", "a-ctr,b-ctr,a-cbc"),
        ] {
            assert_eq!(assemble(list, &built_in, &all).join(","), expected, "{list}");
        }
    }
}
