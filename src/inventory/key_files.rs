//! The key files of a run: whether they are there, and who can read them.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// The key files of a run, each looked at once.
#[derive(Debug, Default)]
pub(super) struct KeyFiles {
    pub(super) home: Option<PathBuf>,
    pub(super) checked: HashSet<PathBuf>,
    pub(super) defaults: Option<Vec<PathBuf>>,
    pub(super) warnings: Vec<String>,
}

/// The keys that are offered when none is configured, in this order.
const DEFAULT_KEYS: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];

impl KeyFiles {
    pub(super) fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    pub(super) fn check(&mut self, path: &Path, origin: impl Fn() -> String) -> Result<()> {
        if self.checked.contains(path) {
            return Ok(());
        }
        let shown = path.display();
        let meta = std::fs::metadata(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => usage(format!(
                "key {shown} of {} does not exist: correct the path or run ssh-keygen -f {shown}",
                origin()
            )),
            _ => usage(format!("cannot read key {shown} of {}", origin())).caused_by(error),
        })?;
        if meta.is_dir() {
            return Err(usage(format!("key {shown} of {} is a directory: name the key file in it", origin())));
        }
        let mode = meta.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            self.warnings.push(format!("key {shown} can be read by others (mode {mode:04o}): run chmod 600 {shown}"));
        }
        self.checked.insert(path.to_owned());
        Ok(())
    }

    pub(super) fn default_paths(&mut self) -> Vec<PathBuf> {
        if let Some(paths) = &self.defaults {
            return paths.clone();
        }
        let directory = self.home.as_ref().map(|home| home.join(".ssh"));
        let paths = directory.iter().flat_map(|directory| DEFAULT_KEYS.map(|name| directory.join(name)));
        let paths: Vec<PathBuf> = paths.filter(|path| path.is_file()).collect();
        let existing = paths.into_iter().filter(|path| self.check(path, String::new).is_ok()).collect::<Vec<_>>();
        self.defaults = Some(existing.clone());
        existing
    }
}

fn usage(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, what)
}
