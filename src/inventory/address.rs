//! Addresses as they are written in a selection or as a host's name: `[user@]host[:port]`.

use std::net::{IpAddr, Ipv6Addr};

/// The parts of a written address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Written<'t> {
    pub(super) user: Option<&'t str>,
    /// The host without brackets.
    pub(super) host: &'t str,
    pub(super) port: Option<u16>,
}

impl Written<'_> {
    /// Tells whether the host is an IP address.
    pub(super) fn is_ip(&self) -> bool {
        is_ip(self.host)
    }
}

/// Splits `[user@]host[:port]`, where an IPv6 host stands in brackets.
///
/// # Errors
///
/// Gives what is wrong, as a fragment.
pub(super) fn split(text: &str) -> Result<Written<'_>, String> {
    let (user, rest) = match text.rsplit_once('@') {
        Some(("", _)) => return Err("the user name is missing before \"@\"".to_owned()),
        Some((user, rest)) => (Some(user), rest),
        None => (None, text),
    };
    if let Some(inner) = rest.strip_prefix('[') {
        let Some((host, after)) = inner.split_once(']') else { return Err("expected \"]\"".to_owned()) };
        if !is_ipv6(host) {
            return Err(format!("\"{host}\" is no IPv6 address"));
        }
        let port = match after.strip_prefix(':') {
            Some(port) => Some(parse_port(port)?),
            None if after.is_empty() => None,
            None => return Err("expected \":\" after \"]\"".to_owned()),
        };
        return Ok(Written { user, host, port });
    }
    if is_ipv6(rest) {
        return Err(format!("an IPv6 address stands in brackets: [{rest}]"));
    }
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            (host, Some(parse_port(port)?))
        }
        _ => (rest, None),
    };
    if host.is_empty() { Err("the host is missing".to_owned()) } else { Ok(Written { user, host, port }) }
}

fn parse_port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("\"{text}\" is no port: expected 1 to 65535")),
    }
}

/// Tells whether a text is an IP address, an IPv6 one with or without a zone.
pub(super) fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok() || is_ipv6(text)
}

fn is_ipv6(text: &str) -> bool {
    let address = text.split_once('%').map_or(text, |(address, _)| address);
    address.parse::<Ipv6Addr>().is_ok()
}

/// Tells why a text cannot name a host, if it cannot.
pub(super) fn check_host(name: &str) -> Result<(), String> {
    if name.starts_with('-') {
        return Err("it starts with \"-\"".to_owned());
    }
    if matches!(name, "." | "..") {
        return Err("it names a directory".to_owned());
    }
    check(name, "/")
}

/// Tells why a text cannot name a group, if it cannot.
pub(super) fn check_group(name: &str) -> Result<(), String> {
    match name {
        "all" => Err("\"all\" always means every host".to_owned()),
        "" => Err("it is empty".to_owned()),
        _ => check(name, "@[]"),
    }
}

fn check(name: &str, also: &str) -> Result<(), String> {
    if name.starts_with(['@', '~']) {
        return Err(format!("it starts with \"{}\"", name.chars().take(1).collect::<String>()));
    }
    let bad = |c: &char| matches!(c, ',' | '!' | '&' | '^' | '(' | ')' | '*' | '?' | '"' | '\\') || also.contains(*c);
    match name.chars().find(|c| c.is_whitespace() || c.is_control() || bad(c)) {
        Some(c) => Err(format!("it contains {c:?}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_addresses_split() {
        for (text, user, host, port) in [
            ("h", None, "h", None),
            ("h:22", None, "h", Some(22)),
            ("u@h", Some("u"), "h", None),
            ("u@corp@h:2200", Some("u@corp"), "h", Some(2200)),
            ("10.0.0.1:22", None, "10.0.0.1", Some(22)),
            ("[::1]", None, "::1", None),
            ("u@[fe80::1%eth0]:22", Some("u"), "fe80::1%eth0", Some(22)),
            ("h:x", None, "h:x", None),
        ] {
            assert_eq!(split(text), Ok(Written { user, host, port }), "{text}");
        }
    }

    #[test]
    fn bad_addresses_say_why() {
        for (text, why) in [
            ("@h", "the user name is missing before \"@\""),
            ("u@", "the host is missing"),
            (":22", "the host is missing"),
            ("h:0", "\"0\" is no port: expected 1 to 65535"),
            ("h:65536", "\"65536\" is no port: expected 1 to 65535"),
            ("::1", "an IPv6 address stands in brackets: [::1]"),
            ("[::1", "expected \"]\""),
            ("[::1]22", "expected \":\" after \"]\""),
            ("[::1]:", "\"\" is no port: expected 1 to 65535"),
            ("[web]", "\"web\" is no IPv6 address"),
        ] {
            assert_eq!(split(text), Err(why.to_owned()), "{text}");
        }
    }
}
