//! Templates: what is known of a host in place of `{{NAME}}`.

use crate::error::{Error, ErrorKind, Result};
use crate::host::{Host, Var};
use crate::quote::{is_bare, quote};

/// A host and its place in a run.
pub(super) struct Place<'a> {
    pub(super) host: &'a Host,
    /// From 0.
    pub(super) index: usize,
    pub(super) total: usize,
}

/// What a text is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// A command line: values are quoted.
    Command,
    /// A word that is quoted as a whole.
    Word,
}

/// Fills a template.
///
/// # Errors
/// `Usage`, with the host's name: a name that it does not have, braces that are not closed, or a value between quotes that
/// needs quoting itself.
pub(super) fn fill(text: &[u8], place: &Place<'_>, usage: Use) -> Result<Vec<u8>> {
    let mut filled = Vec::with_capacity(text.len());
    let mut quotes = Quotes::default();
    let mut rest = text;
    while let Some(&byte) = rest.first() {
        if let Some(after) = rest.strip_prefix(br"\{{") {
            filled.extend(b"{{");
            rest = after;
        } else if let Some((name, after)) = placeholder(rest, b"{{{", b"}}}", place)? {
            filled.extend(value(name, place)?.into_bytes());
            rest = after;
        } else if let Some((name, after)) = placeholder(rest, b"{{", b"}}", place)? {
            let value = value(name, place)?.into_bytes();
            match usage {
                Use::Word => filled.extend(value),
                Use::Command if quotes.inside.is_none() => filled.extend(quote(value)),
                Use::Command if is_bare(&value) => filled.extend(value),
                Use::Command => {
                    let what = format!("{{{{{}}}}} is between quotes, and its value needs quotes itself", name.trim());
                    return Err(usage_error(place, &what));
                }
            }
            rest = after;
        } else {
            quotes.pass(byte);
            filled.push(byte);
            rest = rest.get(1..).unwrap_or_default();
        }
    }
    Ok(filled)
}

type Placeholder<'a> = (&'a str, &'a [u8]);

/// Returns the name between braces that begin here, and what comes after them.
fn placeholder<'a>(text: &'a [u8], open: &[u8], close: &[u8], place: &Place<'_>) -> Result<Option<Placeholder<'a>>> {
    let Some(inner) = text.strip_prefix(open) else { return Ok(None) };
    let end = inner.windows(close.len()).position(|window| window == close);
    let name = end.and_then(|end| inner.get(..end)).and_then(|name| std::str::from_utf8(name).ok());
    let after = end.and_then(|end| inner.get(end + close.len()..));
    match (name, after) {
        (Some(name), Some(after)) => Ok(Some((name, after))),
        _ => {
            let braces = String::from_utf8_lossy(open);
            Err(usage_error(place, &format!("{braces} is not closed (write \\{{{{ for braces that stay)")))
        }
    }
}

fn value(name: &str, place: &Place<'_>) -> Result<String> {
    let host = place.host;
    let name = name.trim();
    Ok(match name {
        "host" => host.name.clone(),
        "address" => host.address.clone(),
        "port" => host.port.to_string(),
        "user" => host.user.clone(),
        "index" => place.index.to_string(),
        "total" => place.total.to_string(),
        "groups" => host.groups.join(","),
        _ => match name.strip_prefix("vars.") {
            Some(key) => match variable(&host.vars, key) {
                Some(var) => var.to_string(),
                None => return Err(usage_error(place, &format!("it has no variable \"{key}\" for {{{{{name}}}}}"))),
            },
            None => {
                let known = "host, address, port, user, index, total, groups and vars.NAME";
                return Err(usage_error(place, &format!("{{{{{name}}}}} is unknown: there are {known}")));
            }
        },
    })
}

/// Finds a variable; a dot leads into a table, unless the key holds it.
fn variable<'a>(vars: &'a std::collections::BTreeMap<String, Var>, key: &str) -> Option<&'a Var> {
    vars.get(key).or_else(|| {
        key.match_indices('.').find_map(|(dot, _)| {
            let (table, rest) = (key.get(..dot)?, key.get(dot + 1..)?);
            match vars.get(table)? {
                Var::Table(inner) => variable(inner, rest),
                _ => None,
            }
        })
    })
}

fn usage_error(place: &Place<'_>, what: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("cannot fill the template for host \"{}\": {what}", place.host.name))
}

/// Follows the quotes of a command line.
#[derive(Default)]
struct Quotes {
    inside: Option<u8>,
    is_escaped: bool,
}

impl Quotes {
    fn pass(&mut self, byte: u8) {
        match (self.inside, byte) {
            _ if self.is_escaped => self.is_escaped = false,
            (None | Some(b'"'), b'\\') => self.is_escaped = true,
            (None, b'\'' | b'"') => self.inside = Some(byte),
            (Some(quote), _) if quote == byte => self.inside = None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        let mut host = Host::new("web 01", "10.0.0.5");
        host.port = 2222;
        host.user = "ops".into();
        host.groups = vec!["web".into(), "prod".into()];
        host.vars.insert("role".into(), Var::Text("front end".into()));
        host.vars.insert("evil".into(), Var::Text("$(touch x)'\"; rm".into()));
        host.vars.insert("weight".into(), Var::Integer(3));
        host.vars.insert("a.b".into(), Var::Bool(true));
        let inner = [("size".to_owned(), Var::Text("5G".into()))].into();
        host.vars.insert("disk".into(), Var::Table([("sda".to_owned(), Var::Table(inner))].into()));
        host
    }

    fn filled(text: &str, usage: Use) -> Result<String> {
        let host = host();
        fill(text.as_bytes(), &Place { host: &host, index: 4, total: 9 }, usage)
            .map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn names_are_filled_and_quoted() {
        for (text, expected) in [
            ("echo {{host}}.log", "echo 'web 01'.log"),
            ("{{ address }}:{{port}} {{user}}", "10.0.0.5:2222 ops"),
            ("{{index}}/{{total}} {{groups}}", "4/9 web,prod"),
            ("{{vars.weight}} {{vars.a.b}} {{vars.disk.sda.size}}", "3 true 5G"),
            ("echo {{vars.evil}}", r#"echo '$(touch x)'\''"; rm'"#),
            ("echo {{{vars.role}}} \"{{{host}}}\"", "echo front end \"web 01\""),
            (r#"echo "{{user}}" '{{port}}' \"{{host}}"#, r#"echo "ops" '2222' \"'web 01'"#),
            (r"docker ps --format '\{{.Names}}' {{user}}", "docker ps --format '{{.Names}}' ops"),
            ("a { b } {c} }} }}}", "a { b } {c} }} }}}"),
        ] {
            assert_eq!(filled(text, Use::Command).unwrap(), expected, "{text}");
        }
        assert_eq!(filled("'{{vars.evil}}' {{host}}", Use::Word).unwrap(), "'$(touch x)'\"; rm' web 01");
    }

    #[test]
    fn what_cannot_be_filled_says_so_with_the_host() {
        for (text, expected) in [
            (
                "{{hots}}",
                "{{hots}} is unknown: there are host, address, port, user, index, total, groups and vars.NAME",
            ),
            ("{{vars.rack}}", "it has no variable \"rack\" for {{vars.rack}}"),
            ("{{vars.disk.sdb}}", "it has no variable \"disk.sdb\" for {{vars.disk.sdb}}"),
            ("echo {{host", "{{ is not closed (write \\{{ for braces that stay)"),
            ("\"{{vars.evil}}\"", "{{vars.evil}} is between quotes, and its value needs quotes itself"),
            ("'{{ host }}'", "{{host}} is between quotes, and its value needs quotes itself"),
        ] {
            let error = filled(text, Use::Command).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert_eq!(error.to_string(), format!("cannot fill the template for host \"web 01\": {expected}"));
        }
    }
}
