//! The simulator as a fleet inventory and as a known_hosts file.

use std::fmt::Write as _;

use crate::config::SimConfig;
use crate::sim::SimHost;

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// The inventory: defaults, then one table a host.
pub(crate) fn toml(config: &SimConfig, hosts: &[SimHost]) -> String {
    let plan = &config.inventory;
    let first_user = || {
        let logins = &config.hosts.first()?.logins;
        logins.users.keys().next().cloned()
    };
    let path = |path: &std::path::PathBuf| path.display().to_string();
    let defaults = [
        ("user", plan.user.clone().or_else(first_user)),
        ("identity", plan.identity.as_ref().map(path)),
        ("password", plan.password.clone()),
        ("known_hosts", plan.known_hosts.as_ref().map(path)),
    ];
    let mut text = String::from("[defaults]\n");
    for (key, value) in defaults {
        if let Some(value) = value {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{key} = {}", quoted(&value));
        }
    }
    for host in hosts {
        let _ = writeln!(
            text,
            "\n[hosts.{}]\naddress = \"{}\"\nport = {}",
            key(host.name()),
            host.address().ip(),
            host.address().port()
        );
    }
    text
}

/// A name as a TOML key: bare where that is possible.
fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.is_empty() && name.chars().all(bare) { name.to_owned() } else { quoted(name) }
}

/// All host keys, one line each.
pub(crate) fn known_hosts(hosts: &[SimHost]) -> String {
    let mut text = String::new();
    for line in hosts.iter().flat_map(SimHost::host_key_lines) {
        text.push_str(line);
        text.push('\n');
    }
    text
}
