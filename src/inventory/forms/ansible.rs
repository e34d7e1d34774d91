//! Ansible's variables: what fleet makes of those that say how to reach a host.

use std::path::Path;

use crate::host::{BecomeBy, Secret, SecretRef, Var};
use crate::inventory::address::check_host;
use crate::inventory::build::check_address;
use crate::inventory::layer::Layer;
use crate::inventory::secret::expand_home;

/// What one host or group is given.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    pub(super) layer: Layer,
    pub(super) address: Option<String>,
}

/// Variables with a meaning for Ansible that asks for nothing here.
const IDLE: [(&str, &[&str]); 3] = [
    ("ansible_connection", &["ssh", "smart", "paramiko", "paramiko_ssh", "ansible.builtin.ssh"]),
    ("ansible_become_method", &["sudo", "ansible.builtin.sudo"]),
    ("ansible_ssh_pipelining", &[]),
];

impl Given {
    pub(super) fn is_empty(&self) -> bool {
        self.layer.is_empty() && self.address.is_none()
    }

    /// Takes a variable. A later one of the same name holds, as with Ansible.
    ///
    /// # Errors
    ///
    /// Gives what is wrong with the value, as a fragment; a secret is not in it.
    pub(super) fn set(&mut self, name: &str, value: Var, offset: usize, directory: &Path) -> Result<(), String> {
        if !name.starts_with("ansible_") {
            self.layer.mark("vars", offset);
            self.layer.vars.insert(name.to_owned(), value);
            return Ok(());
        }
        let text = value.to_string();
        if !IDLE.iter().any(|(idle, _)| *idle == name) && text.contains("{{") && KNOWN.contains(&name) {
            return Err(format!("{name} is a template, which only Ansible fills in"));
        }
        let settings = &mut self.layer.settings;
        let key = match name {
            "ansible_host" | "ansible_ssh_host" => {
                self.address = Some(check_address(&text).map_err(|why| format!("{name} {why}"))?.to_owned());
                return Ok(());
            }
            "ansible_port" | "ansible_ssh_port" => {
                let port = text.parse().ok().filter(|port| *port > 0);
                settings.port = Some(port.ok_or_else(|| format!("{name} must be a number from 1 to 65535"))?);
                "port"
            }
            "ansible_user" | "ansible_ssh_user" => {
                if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
                    return Err(format!("{name} must be a name"));
                }
                settings.user = Some(text);
                "user"
            }
            "ansible_ssh_private_key_file" | "ansible_private_key_file" => {
                settings.identity = Some(vec![directory.join(expand_home(&text))]);
                "identity"
            }
            "ansible_password" | "ansible_ssh_pass" | "ansible_ssh_password" => {
                settings.password = Some(secret(name, &text)?);
                "password"
            }
            "ansible_become" | "ansible_sudo" if is_yes(&text).is_some() => {
                let by = if is_yes(&text) == Some(true) { BecomeBy::Sudo } else { BecomeBy::Nothing };
                settings.become_by = Some(by);
                "become"
            }
            "ansible_become_user" | "ansible_sudo_user" if !text.is_empty() => {
                settings.become_user = Some(text);
                "become_user"
            }
            "ansible_become_password" | "ansible_become_pass" | "ansible_sudo_pass" => {
                settings.become_password = Some(secret(name, &text)?);
                "become_password"
            }
            "ansible_ssh_private_key_passphrase" | "ansible_private_key_passphrase" => {
                settings.passphrase = Some(secret(name, &text)?);
                "passphrase"
            }
            "ansible_ssh_common_args" | "ansible_ssh_extra_args" if jump(&text).is_some() => {
                settings.jump = jump(&text);
                "jump"
            }
            _ => {
                let is_idle =
                    IDLE.iter().any(|(idle, values)| *idle == name && (values.is_empty() || values.contains(&&*text)));
                if !is_idle {
                    self.layer.unheeded.retain(|(before, _)| before != name);
                    self.layer.unheeded.push((name.to_owned(), offset));
                }
                self.layer.mark("vars", offset);
                self.layer.vars.insert(name.to_owned(), value);
                return Ok(());
            }
        };
        self.layer.mark(key, offset);
        Ok(())
    }
}

/// The variables that fleet heeds.
const KNOWN: [&str; 20] = [
    "ansible_host",
    "ansible_ssh_host",
    "ansible_port",
    "ansible_ssh_port",
    "ansible_user",
    "ansible_ssh_user",
    "ansible_ssh_private_key_file",
    "ansible_private_key_file",
    "ansible_password",
    "ansible_ssh_pass",
    "ansible_ssh_password",
    "ansible_become_password",
    "ansible_become_pass",
    "ansible_sudo_pass",
    "ansible_ssh_private_key_passphrase",
    "ansible_private_key_passphrase",
    "ansible_become_user",
    "ansible_ssh_extra_args",
    "ansible_become",
    "ansible_ssh_common_args",
];

/// Reads what Ansible takes for true and false.
fn is_yes(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" | "t" | "1" => Some(true),
        "false" | "no" | "off" | "n" | "f" | "0" => Some(false),
        _ => None,
    }
}

fn secret(name: &str, text: &str) -> Result<SecretRef, String> {
    match text.is_empty() {
        true => Err(format!("{name} is empty")),
        false => Ok(SecretRef::Literal(Secret::from(text))),
    }
}

/// Returns the bastions of `-J HOST` or `-o ProxyJump=HOST`, if nothing else is asked for.
fn jump(args: &str) -> Option<String> {
    let words: Vec<&str> = args.split_whitespace().map(|word| word.trim_matches(['"', '\''])).collect();
    let hosts = match words.as_slice() {
        ["-J", hosts] => hosts,
        ["-o", option] => option.strip_prefix("ProxyJump=")?,
        [word] => word.strip_prefix("-oProxyJump=").or_else(|| word.strip_prefix("-J"))?,
        _ => return None,
    };
    let is_chain = !hosts.is_empty() && hosts.split(',').all(|host| check_host(host).is_ok() && !host.is_empty());
    is_chain.then(|| hosts.to_owned())
}
