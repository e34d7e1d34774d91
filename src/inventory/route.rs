//! How a host is reached: directly, through bastions, through a command.

use std::sync::Arc;

use super::address::split;
use super::explain::Source;
use super::openssh::Openssh;
use super::precedence::Layers;
use super::resolve::Resolver;
use super::select::Target;
use crate::error::{Error, ErrorKind, Result};
use crate::host::{Host, Route};

/// The way to hosts that are alike, as it is written.
#[derive(Clone, Debug)]
pub(super) enum Way {
    Direct,
    Hops(Arc<Hops>),
    Command(String),
}

/// A chain of bastions, the first to be contacted first.
#[derive(Debug)]
pub(super) struct Hops {
    hops: Vec<Hop>,
    /// Who named it, for errors.
    origin: String,
}

/// One bastion, as it is written.
#[derive(Debug)]
struct Hop {
    text: String,
    user: Option<String>,
    host: String,
    port: Option<u16>,
}

impl Hop {
    /// Reads `[user@]host[:port]`, which ssh also takes as `ssh://[user@]host[:port]`.
    fn parse(text: &str) -> Result<Self, String> {
        let bare = text.strip_prefix("ssh://").map_or(text, |rest| rest.strip_suffix('/').unwrap_or(rest));
        let written = split(bare)?;
        let is_bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '/' | '\\');
        if written.host.starts_with('-') || written.host.contains(is_bad) {
            return Err("it cannot be a host's name".to_owned());
        }
        Ok(Self {
            text: bare.to_owned(),
            user: written.user.map(str::to_owned),
            host: written.host.to_owned(),
            port: written.port,
        })
    }

    /// Tells whether this is the host of that name itself.
    fn is(&self, name: &str) -> bool {
        self.text == name || self.host.eq_ignore_ascii_case(name)
    }
}

impl Hops {
    fn parse(text: &str, origin: String) -> Result<Way> {
        if text.eq_ignore_ascii_case("none") {
            return Ok(Way::Direct);
        }
        let hops = text.split(',').map(|hop| {
            let hop = hop.trim();
            Hop::parse(hop).map_err(|why| usage(format!("{origin}: jump: \"{hop}\" is no bastion: {why}")))
        });
        Ok(Way::Hops(Arc::new(Self { hops: hops.collect::<Result<_>>()?, origin })))
    }
}

impl<'a> Resolver<'a> {
    /// Reads the way to hosts that are alike: the inventory's `jump`, else ssh_config's `ProxyJump` or `ProxyCommand`.
    pub(super) fn way(&mut self, layers: &Layers<'_>, ssh: Openssh<'_>) -> Result<Way> {
        if let Some(jump) = layers.get("jump", |layer| layer.jump.as_ref())? {
            self.note("jump", jump.value, || layers.source(&jump));
            return Hops::parse(jump.value, layers.origin(&jump));
        }
        let Some((keyword, value)) = ssh.proxy() else {
            self.note("jump", "none", || Source::BuiltIn);
            return Ok(Way::Direct);
        };
        let source = || Source::SshConfig(value.origin.clone());
        if keyword == "ProxyCommand" {
            self.note("proxy_command", &value.text, source);
            return Ok(Way::Command(value.text.clone()));
        }
        self.note("jump", &value.text, source);
        Hops::parse(&value.text, format!("host \"{}\" ({})", layers.name, value.origin))
    }

    /// Resolves the way to one host. Of a chain that the host itself is part of only what comes before it holds: so a whole
    /// inventory may have one `jump`.
    pub(super) fn route(&mut self, way: &Way, names: [&str; 2]) -> Result<Route> {
        let chain = match way {
            Way::Direct => return Ok(Route::Direct),
            Way::Command(command) => return Ok(Route::Command(command.clone())),
            Way::Hops(chain) => Arc::clone(chain),
        };
        let mut route = Route::Direct;
        let mut key = String::new();
        for hop in chain.hops.iter().take_while(|hop| !names.iter().any(|name| hop.is(name))) {
            key.push_str(&hop.text);
            route = Route::Jump(match self.bastions.get(&key) {
                Some(bastion) => Arc::clone(bastion),
                None => {
                    // The first one is reached as it says itself, the others through the one before.
                    let via = (route != Route::Direct).then_some(route);
                    let bastion = self.bastion(hop, via, &chain.origin)?;
                    self.bastions.insert(key.clone(), Arc::clone(&bastion));
                    bastion
                }
            });
            key.push(',');
        }
        Ok(route)
    }

    /// Resolves a bastion: a host of the inventory by name, else one that ssh_config may know, else an address.
    fn bastion(&mut self, hop: &Hop, via: Option<Route>, origin: &str) -> Result<Arc<Host>> {
        if self.on_the_way.contains(&hop.text) {
            let circle = self.on_the_way.join(" -> ");
            let text = &hop.text;
            let what = format!("{origin}: jump: {circle} -> {text} is a circle: give {text} jump = \"none\"");
            return Err(usage(what));
        }
        let mut target = if self.inventory.entry(&hop.text).is_some() {
            Target::named(hop.text.as_str())
        } else if self.inventory.entry(&hop.host).is_some() {
            Target::named(hop.host.as_str())
        } else {
            let mut target = Target::named(hop.text.as_str());
            target.address = Some(hop.host.as_str().into());
            target
        };
        if *target.name != *hop.text || target.address.is_some() {
            target.user = hop.user.as_deref().map(Into::into);
            target.port = hop.port;
        }
        self.on_the_way.push(hop.text.clone());
        // What is told of the host is not the bastion's.
        let notes = self.notes.take();
        let bastion = self.one(&target, Some(via));
        self.notes = notes;
        self.on_the_way.pop();
        bastion
    }
}

fn usage(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, what)
}
