//! What values are made of: `~`, `%` tokens and `${VARIABLES}` (ssh_config(5), TOKENS and ENVIRONMENT VARIABLES).

use sha1::{Digest as _, Sha1};

use super::Local;
use super::keyword::Keyword;

/// What the tokens stand for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tokens<'a> {
    pub(super) local: &'a Local,
    /// `%h`
    pub(super) host: &'a str,
    /// `%n`
    pub(super) original: &'a str,
    /// `%p`
    pub(super) port: u16,
    /// `%r`
    pub(super) user: &'a str,
    /// `%k`
    pub(super) alias: Option<&'a str>,
    /// What `%j` has the last host of: a chain of bastions, or `none`.
    pub(super) jump: &'a str,
}

impl Tokens<'_> {
    /// Expands a value of a keyword, as far as ssh does for that keyword.
    pub(super) fn expand(&self, keyword: Keyword, text: &str) -> Result<String, String> {
        match keyword {
            Keyword::IdentityFile | Keyword::CertificateFile | Keyword::IdentityAgent | Keyword::UserKnownHostsFile => {
                if text.eq_ignore_ascii_case("none") {
                    return Ok(text.to_owned());
                }
                let text = tilde(text, self.local)?;
                self.replace(&text, true, |token| self.any(token))
            }
            Keyword::ProxyCommand | Keyword::ProxyJump => {
                if keyword == Keyword::ProxyCommand {
                    self.check_for_shell(text)?;
                }
                let some = |token| if matches!(token, 'h' | 'n' | 'p' | 'r') { self.any(token) } else { None };
                self.replace(text, false, some)
            }
            _ => Ok(text.to_owned()),
        }
    }

    /// Expands the command of `Match exec`.
    pub(super) fn command(&self, text: &str) -> Result<String, String> {
        self.check_for_shell(text)?;
        self.replace(text, false, |token| self.any(token))
    }

    /// Refuses a command whose tokens would put into it what a shell acts on: names of hosts and users may come from anywhere
    /// (CVE-2023-51385; ssh refuses such names altogether, ssh.c: `valid_hostname`, `valid_ruser`).
    fn check_for_shell(&self, text: &str) -> Result<(), String> {
        let names =
            [('h', self.host), ('n', self.original), ('r', self.user), ('k', self.alias.unwrap_or(self.original))];
        for (token, name) in names {
            let is_unsafe = name.starts_with('-')
                || name.ends_with('\\')
                || name.contains(|c: char| "'`\"$;&<>|(){}*?[]~#!".contains(c) || c.is_whitespace() || c.is_control());
            // An IPv6 address has brackets nowhere but around it.
            let is_address = name.trim_matches(['[', ']']).parse::<std::net::Ipv6Addr>().is_ok();
            if is_unsafe && !is_address && text.contains(&format!("%{token}")) {
                return Err(format!("a shell would act on %{token}, which is {name:?}"));
            }
        }
        Ok(())
    }

    fn any(&self, token: char) -> Option<String> {
        let local = self.local;
        let short = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
        Some(match token {
            'h' => self.host.to_owned(),
            'n' => self.original.to_owned(),
            'p' => self.port.to_string(),
            'r' => self.user.to_owned(),
            'u' => local.user.clone(),
            'd' => local.home.to_string_lossy().into_owned(),
            'i' => local.uid.to_string(),
            'k' => self.alias.map_or_else(|| self.original.to_owned(), str::to_lowercase),
            'l' => local.host_name.clone(),
            'L' => short(&local.host_name),
            'j' if self.jump.eq_ignore_ascii_case("none") => String::new(),
            'j' => {
                let hop = self.jump.rsplit(',').next().unwrap_or_default();
                let host = hop.rsplit_once('@').map_or(hop, |(_, host)| host);
                let host = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                    Some((address, _)) => address,
                    None => host.split(':').next().unwrap_or_default(),
                };
                host.to_owned()
            }
            'C' => {
                let text = format!("{}{}{}{}", local.host_name, self.host, self.port, self.user);
                Sha1::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
            }
            _ => return None,
        })
    }

    fn replace(&self, text: &str, has_variables: bool, of: impl Fn(char) -> Option<String>) -> Result<String, String> {
        let mut expanded = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '%' => match chars.next() {
                    Some('%') => expanded.push('%'),
                    Some(token) => expanded.push_str(&of(token).ok_or_else(|| format!("%{token} is not known here"))?),
                    None => return Err("it ends in \"%\"".to_owned()),
                },
                '$' if has_variables && chars.as_str().starts_with('{') => {
                    let rest = chars.as_str().trim_start_matches('{');
                    let Some((name, after)) = rest.split_once('}') else {
                        return Err("a \"${\" is not closed".to_owned());
                    };
                    let value = std::env::var(name).map_err(|_| format!("variable {name} is not set"))?;
                    expanded.push_str(&value);
                    chars = after.chars();
                }
                c => expanded.push(c),
            }
        }
        Ok(expanded)
    }
}

/// Expands what does not depend on a host, in the name of a file to be included (since OpenSSH 9.9): variables, and the
/// tokens of this machine and its user. Other tokens stay.
pub(super) fn of_machine(text: &str, local: &Local) -> Result<String, String> {
    let nobody = Tokens { local, host: "", original: "", port: 0, user: "", alias: None, jump: "none" };
    let kept = |token: char| match token {
        'd' | 'i' | 'l' | 'L' | 'u' => nobody.any(token),
        token => Some(format!("%{token}")),
    };
    nobody.replace(text, true, kept)
}

/// Expands `%h` in a `HostName`.
pub(super) fn host_name(text: &str, host: &str) -> Result<String, String> {
    let mut expanded = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '%' { chars.next() } else { None }) {
            ('%', Some('h')) => expanded.push_str(host),
            ('%', Some('%')) => expanded.push('%'),
            ('%', Some(token)) => return Err(format!("%{token} is not known here")),
            ('%', None) => return Err("it ends in \"%\"".to_owned()),
            (c, _) => expanded.push(c),
        }
    }
    Ok(expanded)
}

/// Expands `~/…` and `~user/…`.
pub(super) fn tilde(text: &str, local: &Local) -> Result<String, String> {
    let Some(rest) = text.strip_prefix('~') else { return Ok(text.to_owned()) };
    let (name, path) = rest.split_once('/').unwrap_or((rest, ""));
    let home = match name {
        "" => local.home.clone(),
        name => match nix::unistd::User::from_name(name) {
            Ok(Some(user)) => user.dir,
            _ => return Err(format!("there is no user \"{name}\" for {text}")),
        },
    };
    Ok(home.join(path.trim_start_matches('/')).to_string_lossy().into_owned())
}
