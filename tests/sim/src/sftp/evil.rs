//! Things that do not exist, for a server that lies.

use super::files::Entry;
use super::wire::{Attrs, S_IFDIR, S_IFLNK, S_IFREG};
use crate::config::SftpEvil;

/// What every invented file holds.
pub(super) const CONTENT: &[u8] = b"evil\n";
const ENDLESS: &[u8] = b"/endless-";

/// Something invented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ghost {
    File,
    Link(Vec<u8>),
    /// A directory with one invented file, `inside`.
    Directory,
}

fn file(name: &[u8]) -> Entry {
    Entry { name: name.to_vec(), attrs: Attrs::invented(S_IFREG | 0o644, CONTENT.len() as u64) }
}

fn directory(name: &[u8]) -> Entry {
    Entry { name: name.to_vec(), attrs: Attrs::invented(S_IFDIR | 0o755, 4096) }
}

impl Ghost {
    pub(super) fn attrs(&self) -> Attrs {
        match self {
            Self::File => file(b"").attrs,
            Self::Directory => directory(b"").attrs,
            Self::Link(target) => Attrs::invented(S_IFLNK | 0o777, target.len() as u64),
        }
    }
}

impl SftpEvil {
    /// What the path means, if it is invented; with `follow` as `stat` sees it, else as `lstat` does.
    pub(super) fn lookup(&self, path: &[u8], follow: bool) -> Option<Ghost> {
        match self {
            Self::Names(names) => names.iter().any(|name| is_at_end(path, name)).then_some(Ghost::File),
            Self::EndlessDirectory => path.windows(ENDLESS.len()).any(|part| part == ENDLESS).then_some(Ghost::File),
            Self::LinkThenDirectory(target) => {
                if is_at_end(path, b"link") {
                    Some(if follow { Ghost::Directory } else { Ghost::Link(target.clone()) })
                } else {
                    is_at_end(path, b"link/inside").then_some(Ghost::File)
                }
            }
            _ => None,
        }
    }

    /// The path that is meant: a looping directory is the directory itself.
    pub(super) fn meant(&self, path: &[u8]) -> Vec<u8> {
        if *self != Self::DirectoryLoop {
            return path.to_vec();
        }
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| *part != b"loop").collect();
        parts.join(&b'/')
    }

    /// What a listing has besides the truth.
    pub(super) fn additions(&self) -> Vec<Entry> {
        match self {
            Self::Names(names) => names.iter().map(|name| file(name)).collect(),
            Self::DirectoryLoop => vec![directory(b"loop")],
            Self::LinkThenDirectory(target) => {
                let link = Entry { name: b"link".to_vec(), attrs: Ghost::Link(target.clone()).attrs() };
                vec![link, directory(b"link")]
            }
            _ => Vec::new(),
        }
    }

    /// The listing of an invented directory.
    pub(super) fn inside() -> Vec<Entry> {
        vec![file(b"inside")]
    }

    /// The next names of a listing without end.
    pub(super) fn endless(&self, sent: u64) -> Option<Vec<Entry>> {
        (*self == Self::EndlessDirectory)
            .then(|| (sent..sent + 100).map(|number| file(format!("endless-{number:012}").as_bytes())).collect())
    }

    /// The attributes as told.
    pub(super) fn told(&self, mut attrs: Attrs) -> Attrs {
        if let Self::SizeLie(delta) = self
            && attrs.is_regular()
        {
            attrs.size = attrs.size.map(|size| size.saturating_add_signed(*delta));
        }
        attrs
    }
}

/// Whether a client that joined a directory and this name would ask for this path.
fn is_at_end(path: &[u8], name: &[u8]) -> bool {
    if name.is_empty() {
        return false;
    }
    match path.strip_suffix(name) {
        Some([]) => name.starts_with(b"/"),
        Some(directory) => directory.ends_with(b"/") || name.starts_with(b"/"),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_names_are_files_wherever_they_are_joined() {
        let evil = SftpEvil::bad_names();
        for path in [&b"d/../../evil"[..], b"d/x\0y", b"/tmp/fleet-sim-evil"] {
            assert_eq!(evil.lookup(path, true), Some(Ghost::File), "{path:?}");
        }
        for path in [&b"."[..], b"d", b"d/"] {
            assert_eq!(evil.lookup(path, true), None, "{path:?}");
        }
    }

    #[test]
    fn a_looping_directory_is_itself() {
        let evil = SftpEvil::DirectoryLoop;
        assert_eq!(evil.meant(b"/home/x/loop/loop/y"), b"/home/x/y");
    }
}
