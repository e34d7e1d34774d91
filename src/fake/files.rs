//! The files of a fake host, and the file service over them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::budget::Budget;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::transport::{DirEntry, FileAttrs, FileId, FileKind, OpenMode, RemoteFiles, SftpStatus};

/// Where a login on a fake host starts: relative paths begin here.
const HOME: &str = "/home/fleet";
/// How many links are followed before a path counts as a loop, as Linux does.
const MAX_LINKS: usize = 40;

/// The files of one fake host. Clones share them; a test may look at them while a transfer runs.
///
/// `/`, `/home`, `/home/fleet` (where relative paths start) and `/tmp` are there from the beginning. A host's clock stands
/// still: what a transfer does not give a time is of 1970.
///
/// # Examples
///
/// ```
/// let files = fleet::fake::FakeTransport::new().files("web01");
/// files.write("app/config", "port = 80\n");
/// assert_eq!(files.read("/home/fleet/app/config").as_deref(), Some(&b"port = 80\n"[..]));
/// assert_eq!(files.mode("app"), Some(0o755));
/// ```
#[derive(Clone)]
pub struct FakeFiles(Arc<Mutex<Tree>>);

impl Default for FakeFiles {
    fn default() -> Self {
        let mut tree = Tree::default();
        for path in ["/", "/home", HOME, "/tmp"] {
            tree.nodes.insert(path.as_bytes().to_vec(), Node::directory(0o755));
        }
        Self(Arc::new(Mutex::new(tree)))
    }
}

impl fmt::Debug for FakeFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FakeFiles").field(&self.paths()).finish()
    }
}

#[derive(Default)]
struct Tree {
    nodes: BTreeMap<Vec<u8>, Node>,
    denied: BTreeSet<Vec<u8>>,
}

#[derive(Clone)]
struct Node {
    content: Content,
    mode: u32,
    mtime: u64,
}

#[derive(Clone)]
enum Content {
    File(Vec<u8>),
    Directory,
    Symlink(Vec<u8>),
}

impl Node {
    fn file(bytes: Vec<u8>, mode: u32) -> Self {
        Self { content: Content::File(bytes), mode, mtime: 0 }
    }

    fn directory(mode: u32) -> Self {
        Self { content: Content::Directory, mode, mtime: 0 }
    }

    fn attrs(&self) -> FileAttrs {
        let (kind, size) = match &self.content {
            Content::File(bytes) => (FileKind::File, bytes.len()),
            Content::Directory => (FileKind::Directory, 4096),
            Content::Symlink(target) => (FileKind::Symlink, target.len()),
        };
        FileAttrs::new(kind, size as u64, self.mode, Some(self.mtime))
    }
}

impl FakeFiles {
    /// Writes a file with mode 0644, and makes its directories.
    pub fn write(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.insert(path, Node::file(bytes.into(), 0o644));
    }

    /// Makes a directory with mode 0755, and those above it.
    pub fn create_dir(&self, path: &str) {
        self.insert(path, Node::directory(0o755));
    }

    /// Makes a symbolic link, and the directories above it.
    pub fn symlink(&self, target: &str, path: &str) {
        self.insert(path, Node { content: Content::Symlink(target.as_bytes().to_vec()), mode: 0o777, mtime: 0 });
    }

    /// Sets a path's permission bits and modification time (seconds since 1970), if there is something.
    pub fn set_attrs(&self, path: &str, mode: u32, mtime: u64) {
        if let Some(node) = self.lock().nodes.get_mut(&absolute(path.as_bytes())) {
            (node.mode, node.mtime) = (mode, mtime);
        }
    }

    /// Refuses every access to a path as "permission denied", from now on.
    pub fn deny(&self, path: &str) {
        self.lock().denied.insert(absolute(path.as_bytes()));
    }

    /// Returns a file's bytes; `None` if there is no such file.
    pub fn read(&self, path: &str) -> Option<Vec<u8>> {
        match &self.lock().nodes.get(&absolute(path.as_bytes()))?.content {
            Content::File(bytes) => Some(bytes.clone()),
            Content::Directory | Content::Symlink(_) => None,
        }
    }

    /// Returns a path's permission bits.
    pub fn mode(&self, path: &str) -> Option<u32> {
        Some(self.lock().nodes.get(&absolute(path.as_bytes()))?.mode)
    }

    /// Returns a path's modification time, in seconds since 1970.
    pub fn mtime(&self, path: &str) -> Option<u64> {
        Some(self.lock().nodes.get(&absolute(path.as_bytes()))?.mtime)
    }

    /// Returns a link's target.
    pub fn target(&self, path: &str) -> Option<String> {
        match &self.lock().nodes.get(&absolute(path.as_bytes()))?.content {
            Content::Symlink(target) => Some(String::from_utf8_lossy(target).into_owned()),
            Content::Directory | Content::File(_) => None,
        }
    }

    /// Returns every path, sorted.
    pub fn paths(&self) -> Vec<String> {
        self.lock().nodes.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
    }

    fn insert(&self, path: &str, node: Node) {
        let path = absolute(path.as_bytes());
        let mut tree = self.lock();
        let mut above = parent(&path);
        while let Some(directory) = above {
            above = parent(&directory);
            tree.nodes.entry(directory).or_insert_with(|| Node::directory(0o755));
        }
        tree.nodes.insert(path, node);
    }

    fn lock(&self) -> MutexGuard<'_, Tree> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a path absolute and plain: no empty part, no `.`, no `..`.
fn absolute(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    let start = if path.starts_with(b"/") { &b""[..] } else { HOME.as_bytes() };
    for part in start.split(|byte| *byte == b'/').chain(path.split(|byte| *byte == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let mut plain = Vec::with_capacity(path.len() + 1);
    for part in parts {
        plain.push(b'/');
        plain.extend_from_slice(part);
    }
    if plain.is_empty() {
        plain.push(b'/');
    }
    plain
}

/// Splits a plain path into the directory above and the name in it.
fn split(path: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let slash = path.iter().rposition(|byte| *byte == b'/')?;
    let (directory, name) = (path.get(..slash)?, path.get(slash + 1..)?);
    if name.is_empty() {
        return None;
    }
    Some((if directory.is_empty() { b"/".to_vec() } else { directory.to_vec() }, name))
}

fn parent(path: &[u8]) -> Option<Vec<u8>> {
    split(path).map(|(directory, _)| directory)
}

impl Tree {
    /// Follows links: those of the directories always, that of the path itself with `follow`.
    fn resolve(&self, path: &[u8], follow: bool) -> Result<Vec<u8>, SftpStatus> {
        let mut path = absolute(path);
        for _ in 0..MAX_LINKS {
            let Some((place, target)) = self.first_link(&path, follow) else {
                return if self.denied.contains(&path) { Err(SftpStatus::PERMISSION_DENIED) } else { Ok(path) };
            };
            let rest = path.get(place.len()..).unwrap_or_default().to_vec();
            let mut next = if target.starts_with(b"/") { Vec::new() } else { parent(&place).unwrap_or_default() };
            next.push(b'/');
            next.extend_from_slice(target);
            next.extend_from_slice(&rest);
            path = absolute(&next);
        }
        Err(SftpStatus(21))
    }

    fn first_link(&self, path: &[u8], follow: bool) -> Option<(Vec<u8>, &[u8])> {
        let ends = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let whole = follow.then_some(path.len());
        ends.chain(whole).find_map(|end| {
            let place = path.get(..end)?;
            match &self.nodes.get(place)?.content {
                Content::Symlink(target) => Some((place.to_vec(), target.as_slice())),
                Content::File(_) | Content::Directory => None,
            }
        })
    }

    fn node(&mut self, path: &[u8]) -> Result<&mut Node, SftpStatus> {
        self.nodes.get_mut(path).ok_or(SftpStatus::NO_SUCH_FILE)
    }

    /// Checks that something may be made at `path`.
    fn check_parent(&self, path: &[u8]) -> Result<(), SftpStatus> {
        let directory = parent(path).ok_or(SftpStatus::FAILURE)?;
        if self.denied.contains(&directory) {
            return Err(SftpStatus::PERMISSION_DENIED);
        }
        match self.nodes.get(&directory).map(|node| &node.content) {
            Some(Content::Directory) => Ok(()),
            Some(_) => Err(SftpStatus::FAILURE),
            None => Err(SftpStatus::NO_SUCH_FILE),
        }
    }
}

/// The file service of one session.
pub(super) struct FileService {
    files: FakeFiles,
    is_refused: bool,
    open: HashMap<FileId, OpenFile>,
    next_id: u32,
}

struct OpenFile {
    path: Vec<u8>,
    at: usize,
}

impl FileService {
    pub(super) fn new(files: FakeFiles, is_refused: bool) -> Self {
        Self { files, is_refused, open: HashMap::new(), next_id: 0 }
    }

    pub(super) fn open(&mut self) -> Result<&mut dyn RemoteFiles> {
        if self.is_refused {
            return Err(Error::new(ErrorKind::Refused, "the server has no file service").in_phase(Phase::Channel));
        }
        Ok(self)
    }

    /// Does something to the tree under its lock; a refusal names the path.
    fn at<T>(
        &self,
        what: &str,
        path: &[u8],
        budget: &Budget,
        work: impl FnOnce(&mut Tree) -> Result<T, SftpStatus>,
    ) -> Result<T> {
        budget.check(Phase::Transfer)?;
        work(&mut self.files.lock())
            .map_err(|status| status.error(format!("cannot {what} {}", String::from_utf8_lossy(path))))
    }

    fn opened(&mut self, file: FileId) -> Result<&mut OpenFile> {
        self.open.get_mut(&file).ok_or_else(|| SftpStatus(9).error("cannot use a file that is not open"))
    }
}

impl RemoteFiles for FileService {
    fn stat(&mut self, path: &[u8], follow: bool, budget: &Budget) -> Result<Option<FileAttrs>> {
        self.at("look at", path, budget, |tree| {
            let path = tree.resolve(path, follow)?;
            Ok(tree.nodes.get(&path).map(Node::attrs))
        })
    }

    fn open(&mut self, path: &[u8], mode: OpenMode, budget: &Budget) -> Result<FileId> {
        let place = self.at("open", path, budget, |tree| {
            let place = tree.resolve(path, true)?;
            let known = tree.nodes.get_mut(&place).map(|node| &mut node.content);
            match (known, mode) {
                (Some(Content::File(_)), OpenMode::Read) => {}
                (None, OpenMode::Read) => return Err(SftpStatus::NO_SUCH_FILE),
                (Some(Content::File(bytes)), OpenMode::Truncate(_)) => bytes.clear(),
                (None, OpenMode::CreateNew(bits) | OpenMode::Truncate(bits)) => {
                    tree.check_parent(&place)?;
                    tree.nodes.insert(place.clone(), Node::file(Vec::new(), bits));
                }
                (Some(_), _) => return Err(SftpStatus::FAILURE),
            }
            Ok(place)
        })?;
        let id = FileId(self.next_id);
        self.next_id += 1;
        self.open.insert(id, OpenFile { path: place, at: 0 });
        Ok(id)
    }

    fn read(&mut self, file: FileId, buffer: &mut [u8], budget: &Budget) -> Result<usize> {
        let OpenFile { path, at } = self.opened(file)?;
        let (path, from) = (path.clone(), *at);
        let count = self.at("read", &path, budget, |tree| match &tree.node(&path)?.content {
            Content::File(bytes) => {
                let rest = bytes.get(from..).unwrap_or_default();
                let count = rest.len().min(buffer.len());
                if let (Some(to), Some(rest)) = (buffer.get_mut(..count), rest.get(..count)) {
                    to.copy_from_slice(rest);
                }
                Ok(count)
            }
            Content::Directory | Content::Symlink(_) => Err(SftpStatus::FAILURE),
        })?;
        self.opened(file)?.at += count;
        Ok(count)
    }

    fn write(&mut self, file: FileId, bytes: &[u8], budget: &Budget) -> Result<usize> {
        let path = self.opened(file)?.path.clone();
        self.at("write", &path, budget, |tree| match &mut tree.node(&path)?.content {
            Content::File(content) => {
                content.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            Content::Directory | Content::Symlink(_) => Err(SftpStatus::FAILURE),
        })
    }

    fn sync(&mut self, file: FileId, budget: &Budget) -> Result<()> {
        budget.check(Phase::Transfer)?;
        self.opened(file).map(|_| ())
    }

    fn set_attrs(&mut self, file: FileId, mode: Option<u32>, mtime: Option<u64>, budget: &Budget) -> Result<()> {
        let path = self.opened(file)?.path.clone();
        self.at("set the attributes of", &path, budget, |tree| {
            let node = tree.node(&path)?;
            node.mode = mode.unwrap_or(node.mode);
            node.mtime = mtime.unwrap_or(node.mtime);
            Ok(())
        })
    }

    fn close(&mut self, file: FileId, _budget: &Budget) -> Result<()> {
        self.opened(file)?;
        self.open.remove(&file);
        Ok(())
    }

    fn read_dir(&mut self, path: &[u8], limit: usize, budget: &Budget) -> Result<Vec<DirEntry>> {
        self.at("list", path, budget, |tree| {
            let directory = tree.resolve(path, true)?;
            if !matches!(tree.node(&directory)?.content, Content::Directory) {
                return Err(SftpStatus(19));
            }
            let entries: Vec<_> = tree
                .nodes
                .iter()
                .filter_map(|(path, node)| {
                    let (above, name) = split(path)?;
                    (above == directory).then(|| DirEntry::new(name, node.attrs()))
                })
                .collect();
            if entries.len() > limit { Err(SftpStatus::FAILURE) } else { Ok(entries) }
        })
    }

    fn create_dir(&mut self, path: &[u8], mode: u32, budget: &Budget) -> Result<()> {
        self.at("make the directory", path, budget, |tree| {
            let path = tree.resolve(path, false)?;
            if tree.nodes.contains_key(&path) {
                return Err(SftpStatus::FAILURE);
            }
            tree.check_parent(&path)?;
            tree.nodes.insert(path, Node::directory(mode));
            Ok(())
        })
    }

    fn remove(&mut self, path: &[u8], budget: &Budget) -> Result<()> {
        self.at("remove", path, budget, |tree| {
            let path = tree.resolve(path, false)?;
            match tree.node(&path)?.content {
                Content::Directory => Err(SftpStatus::FAILURE),
                Content::File(_) | Content::Symlink(_) => {
                    tree.nodes.remove(&path);
                    Ok(())
                }
            }
        })
    }

    fn rename(&mut self, from: &[u8], to: &[u8], budget: &Budget) -> Result<()> {
        self.at("rename", from, budget, |tree| {
            let (from, to) = (tree.resolve(from, false)?, tree.resolve(to, false)?);
            tree.node(&from)?;
            tree.check_parent(&to)?;
            if matches!(tree.nodes.get(&to).map(|node| &node.content), Some(Content::Directory)) {
                return Err(SftpStatus::FAILURE);
            }
            let inside = [from.as_slice(), b"/"].concat();
            let moved: Vec<_> =
                tree.nodes.keys().filter(|path| **path == from || path.starts_with(&inside)).cloned().collect();
            for path in moved {
                if let Some(node) = tree.nodes.remove(&path) {
                    let rest = path.get(from.len()..).unwrap_or_default();
                    tree.nodes.insert([to.as_slice(), rest].concat(), node);
                }
            }
            Ok(())
        })
    }

    fn set_mode(&mut self, path: &[u8], mode: u32, budget: &Budget) -> Result<()> {
        self.at("set the mode of", path, budget, |tree| {
            let path = tree.resolve(path, true)?;
            tree.node(&path)?.mode = mode;
            Ok(())
        })
    }

    fn canonicalize(&mut self, path: &[u8], budget: &Budget) -> Result<Vec<u8>> {
        self.at("resolve", path, budget, |tree| tree.resolve(path, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::CancelToken;

    #[test]
    fn paths_become_absolute_and_plain() {
        assert_eq!(absolute(b"a//./b/../c"), b"/home/fleet/a/c");
        assert_eq!(absolute(b"/../x"), b"/x");
        assert_eq!(absolute(b"/"), b"/");
    }

    #[test]
    fn a_file_goes_through_its_life() {
        let files = FakeFiles::default();
        let mut service = FileService::new(files.clone(), false);
        let budget = Budget::new(CancelToken::new());
        let service = service.open().unwrap();
        service.create_dir(b"d", 0o700, &budget).unwrap();
        let id = service.open(b"d/.tmp", OpenMode::CreateNew(0o600), &budget).unwrap();
        assert_eq!(service.write(id, b"hello", &budget).unwrap(), 5);
        service.set_attrs(id, Some(0o640), Some(7), &budget).unwrap();
        service.close(id, &budget).unwrap();
        assert!(service.open(b"d/.tmp", OpenMode::CreateNew(0o600), &budget).is_err());
        service.rename(b"d/.tmp", b"d/f", &budget).unwrap();
        let attrs = service.stat(b"d/f", true, &budget).unwrap().unwrap();
        assert_eq!((attrs.size, attrs.mode, attrs.mtime), (5, 0o640, Some(7)));
        let id = service.open(b"d/f", OpenMode::Read, &budget).unwrap();
        let mut buffer = [0; 4];
        assert_eq!(service.read(id, &mut buffer, &budget).unwrap(), 4);
        assert_eq!(service.read(id, &mut buffer, &budget).unwrap(), 1);
        assert_eq!(service.read(id, &mut buffer, &budget).unwrap(), 0);
        assert_eq!(service.read_dir(b"d", 10, &budget).unwrap().len(), 1);
        service.remove(b"d/f", &budget).unwrap();
        assert_eq!(service.stat(b"d/f", true, &budget).unwrap(), None);
        assert_eq!(files.mode("d"), Some(0o700));
    }

    #[test]
    fn links_are_followed_and_loops_refused() {
        let files = FakeFiles::default();
        files.write("real/f", "x");
        files.symlink("real", "alias");
        files.symlink("b", "a");
        files.symlink("a", "b");
        let mut service = FileService::new(files.clone(), false);
        let budget = Budget::new(CancelToken::new());
        let service = service.open().unwrap();
        assert_eq!(service.canonicalize(b"alias/f", &budget).unwrap(), b"/home/fleet/real/f");
        assert_eq!(service.stat(b"alias", false, &budget).unwrap().unwrap().kind, FileKind::Symlink);
        assert!(service.stat(b"a", true, &budget).is_err());
        files.deny("real/f");
        let error = service.open(b"alias/f", OpenMode::Read, &budget).unwrap_err();
        assert_eq!(SftpStatus::of(&error), Some(SftpStatus::PERMISSION_DENIED));
    }
}
