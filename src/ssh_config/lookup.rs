//! Which lines apply to a host (readconf.c: process_config_line_depth, match_cfg_line).

use std::collections::BTreeMap;

use wildmatch::WildMatch;

use super::file::{ConfigFile, Criterion, Directive, HostPattern, Test, usage};
use super::keyword::Keyword;
use super::tokens::{self, Tokens};
use super::{Effective, Given, Ignored, Local, Origin, Value};
use crate::error::{Error, Result};

pub(super) fn lookup(files: &[ConfigFile], local: &Local, name: &str, given: &Given<'_>) -> Result<Effective> {
    let mut walk = Walk {
        local,
        given,
        original: name,
        host: name.to_owned(),
        is_second: false,
        wants_second: false,
        values: BTreeMap::new(),
        ignored: Vec::new(),
        warnings: Vec::new(),
    };
    walk.files(files)?;
    let mut address = walk.address()?;
    // What may be numeric stays as it is (ssh.c: is_addr_fast).
    let is_numeric = address.contains(['%', ':']) || address.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if !is_numeric {
        address = address.to_lowercase();
    }
    if walk.wants_second {
        walk.is_second = true;
        walk.host = address.clone();
        walk.files(files)?;
    }
    let values = walk.expanded(&address)?;
    Ok(Effective { address, values, ignored: walk.ignored, warnings: walk.warnings })
}

struct Walk<'a> {
    local: &'a Local,
    given: &'a Given<'a>,
    original: &'a str,
    /// What `Host` patterns are compared with: the name, in the second pass the address.
    host: String,
    is_second: bool,
    wants_second: bool,
    values: BTreeMap<Keyword, Vec<Value>>,
    ignored: Vec<Ignored>,
    warnings: Vec<String>,
}

impl Walk<'_> {
    fn files(&mut self, files: &[ConfigFile]) -> Result<()> {
        // Each file starts outside of any block.
        files.iter().try_for_each(|file| self.file(file, true, false))
    }

    /// Goes through a file; in one that is included by a block that does not match, no block matches either.
    fn file(&mut self, file: &ConfigFile, mut is_active: bool, never: bool) -> Result<()> {
        for line in &file.lines {
            match &line.directive {
                Directive::Host(patterns) => is_active = !never && is_host(patterns, &self.host),
                Directive::Match(criteria) => is_active = self.meets(criteria, &line.origin, never)? && !never,
                Directive::Include(files) => {
                    files.iter().try_for_each(|file| self.file(file, is_active, never || !is_active))?;
                }
                Directive::Set(keyword, values) if is_active => self.set(*keyword, values, &line.origin),
                Directive::Other(keyword) if is_active => {
                    let ignored = Ignored::new(keyword, line.origin.clone());
                    if !self.ignored.contains(&ignored) {
                        self.ignored.push(ignored);
                    }
                }
                Directive::Set(..) | Directive::Other(_) => {}
            }
        }
        Ok(())
    }

    fn set(&mut self, keyword: Keyword, words: &[String], origin: &Origin) {
        let is_given = match keyword {
            Keyword::User => self.given.user.is_some(),
            Keyword::Port => self.given.port.is_some(),
            // The second pass knows where the host is.
            Keyword::HostName => self.is_second || self.given.host_name.is_some(),
            // Whichever comes first holds.
            Keyword::ProxyJump => self.values.contains_key(&Keyword::ProxyCommand),
            Keyword::ProxyCommand => {
                self.first(Keyword::ProxyJump).is_some_and(|jump| !jump.raw.eq_ignore_ascii_case("none"))
            }
            _ => false,
        };
        let is_settled = !keyword.accumulates() && self.values.contains_key(&keyword);
        if is_given || is_settled || words.is_empty() {
            return;
        }
        let values = self.values.entry(keyword).or_default();
        for word in words {
            let is_double = keyword.accumulates() && values.iter().any(|value| value.raw == *word);
            if !is_double {
                values.push(Value { text: word.clone(), raw: word.clone(), origin: origin.clone() });
            }
        }
    }

    fn first(&self, keyword: Keyword) -> Option<&Value> {
        self.values.get(&keyword)?.first()
    }

    fn user(&self) -> &str {
        let set = || self.first(Keyword::User).map(|value| &*value.text);
        self.given.user.or_else(set).unwrap_or(&self.local.user)
    }

    fn port(&self) -> u16 {
        let set = || self.first(Keyword::Port).and_then(|value| value.text.parse().ok());
        self.given.port.or_else(set).unwrap_or(22)
    }

    /// Returns where the host is, by what is known so far.
    fn address(&self) -> Result<String> {
        if self.is_second {
            return Ok(self.host.clone());
        }
        if let Some(given) = self.given.host_name {
            return Ok(given.to_owned());
        }
        match self.first(Keyword::HostName) {
            None => Ok(self.host.clone()),
            Some(value) => {
                tokens::host_name(&value.raw, &self.host).map_err(|what| bad(Keyword::HostName, value, &what))
            }
        }
    }

    fn tokens<'t>(&'t self, address: &'t str) -> Tokens<'t> {
        Tokens {
            local: self.local,
            host: address,
            original: self.original,
            port: self.port(),
            user: self.user(),
            alias: self.first(Keyword::HostKeyAlias).map(|value| &*value.raw),
            jump: self.first(Keyword::ProxyJump).map_or("none", |value| &*value.raw),
        }
    }

    fn meets(&mut self, criteria: &[Criterion], origin: &Origin, never: bool) -> Result<bool> {
        let address = self.address()?;
        let mut is_met = true;
        for Criterion { is_negated, test } in criteria {
            let holds = match test {
                Test::All => true,
                Test::Canonical => self.is_second,
                Test::Final => {
                    self.wants_second = true;
                    self.is_second
                }
                Test::Host(list) => in_list(&address.to_lowercase(), &list.to_lowercase()),
                Test::OriginalHost(list) => in_list(&self.original.to_lowercase(), &list.to_lowercase()),
                Test::User(list) => in_list(self.user(), list),
                Test::LocalUser(list) => in_list(&self.local.user, list),
                Test::Tagged(list) => self.first(Keyword::Tag).is_some_and(|tag| in_list(&tag.text, list)),
                Test::Exec(_) | Test::Other(_) if !is_met || never => *is_negated,
                Test::Exec(command) => match self.given.exec {
                    Some(exec) => {
                        let command = self.tokens(&address).command(command);
                        exec(&command.map_err(|what| usage(format!("{origin}: Match exec: {what}")))?)
                    }
                    None => {
                        self.warn(format!("{origin}: Match exec is not run: its block is left out"));
                        *is_negated
                    }
                },
                Test::Other(name) => {
                    self.warn(format!("{origin}: Match {name} is not supported: its block is left out"));
                    *is_negated
                }
            };
            is_met &= holds != *is_negated;
        }
        Ok(is_met)
    }

    fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    fn expanded(&self, address: &str) -> Result<BTreeMap<Keyword, Vec<Value>>> {
        let tokens = self.tokens(address);
        let mut values = self.values.clone();
        for (keyword, values) in &mut values {
            for value in values {
                value.text = tokens.expand(*keyword, &value.raw).map_err(|what| bad(*keyword, value, &what))?;
            }
        }
        if let Some(value) = values.get_mut(&Keyword::HostName).and_then(|values| values.first_mut()) {
            address.clone_into(&mut value.text);
        }
        Ok(values)
    }
}

fn bad(keyword: Keyword, value: &Value, what: &str) -> Error {
    usage(format!("{}: {} {}: {what}", value.origin, keyword.as_str(), value.raw))
}

/// Tells whether a host is among the patterns and none of the negated ones.
fn is_host(patterns: &[HostPattern], host: &str) -> bool {
    let mut is_found = false;
    for HostPattern { is_negated, pattern } in patterns {
        if WildMatch::new(pattern).matches(host) {
            if *is_negated {
                return false;
            }
            is_found = true;
        }
    }
    is_found
}

/// Tells whether a text is in a pattern list (match.c: match_pattern_list).
fn in_list(text: &str, list: &str) -> bool {
    let mut is_found = false;
    for pattern in list.split(',') {
        match pattern.strip_prefix('!') {
            Some(pattern) if WildMatch::new(pattern).matches(text) => return false,
            Some(_) => {}
            None => is_found |= WildMatch::new(pattern).matches(text),
        }
    }
    is_found
}
