//! Where the bytes of spools are: a budget of memory, blocks of one file, and the index of equal contents.

use std::collections::HashMap;
use std::fs::{File, Permissions};
use std::hash::RandomState;
use std::io;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use crate::error::{Error, ErrorKind, Result};

/// The file is handed out in blocks of this size, to be used again when their spool is dropped. What a spool leaves of its
/// last block is a hole in the file.
pub(super) const BLOCK_BYTES: u64 = 64 * 1024;

/// The least that a spool takes of the memory budget.
const FIRST_BYTES: usize = 128;

pub(super) struct Store {
    memory: AtomicUsize,
    dir: PathBuf,
    file: OnceLock<File>,
    making: Mutex<()>,
    file_end: AtomicU64,
    free_blocks: Mutex<Vec<u64>>,
    /// Keyed by chance: an output cannot be made to collide with another on purpose.
    pub(super) hashing: RandomState,
    contents: Mutex<HashMap<Key, Vec<Weak<Content>>>>,
}

/// Length and hash: equal contents have equal keys, and what has equal keys is compared.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    len: u64,
    hash: u64,
}

impl Store {
    pub(super) fn new(memory: usize, dir: PathBuf) -> Self {
        Self {
            memory: AtomicUsize::new(memory),
            dir,
            file: OnceLock::new(),
            making: Mutex::default(),
            file_end: AtomicU64::new(0),
            free_blocks: Mutex::default(),
            hashing: RandomState::new(),
            contents: Mutex::default(),
        }
    }

    pub(super) fn free_memory(&self) -> usize {
        self.memory.load(Ordering::Relaxed)
    }

    fn take_memory(&self, bytes: usize) -> bool {
        self.memory.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(bytes)).is_ok()
    }

    fn give_memory(&self, bytes: usize) {
        self.memory.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns the spill file, made at the first call. A failure is not remembered: space may come back.
    fn file(&self) -> io::Result<&File> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let _turn = lock(&self.making);
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let file = tempfile::tempfile_in(&self.dir)?;
        // tempfile 3.27 leaves an O_TMPFILE to the umask.
        file.set_permissions(Permissions::from_mode(0o600))?;
        Ok(self.file.get_or_init(|| file))
    }

    #[cfg(test)]
    pub(super) fn with_file(file: File, dir: PathBuf) -> Self {
        let store = Self::new(0, dir);
        store.file.get_or_init(|| file);
        store
    }

    #[cfg(test)]
    pub(super) fn mode(&self) -> u32 {
        self.file().unwrap().metadata().unwrap().permissions().mode() & 0o777
    }

    #[cfg(test)]
    pub(super) fn file_end(&self) -> u64 {
        self.file_end.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn contents_len(&self) -> usize {
        lock(&self.contents).len()
    }

    fn take_block(&self) -> u64 {
        let free = lock(&self.free_blocks).pop();
        free.unwrap_or_else(|| self.file_end.fetch_add(BLOCK_BYTES, Ordering::Relaxed))
    }

    fn error(&self, verb: &str, error: io::Error) -> Error {
        let what = format!("cannot {verb} the spill file in {}", self.dir.display());
        Error::new(ErrorKind::LocalFile, what).caused_by(error)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The bytes of one spool: the first of them in memory, the rest in blocks of the file.
pub(super) struct Body {
    store: Arc<Store>,
    memory: Vec<u8>,
    /// What was taken from the budget for `memory`.
    taken: usize,
    blocks: Vec<u64>,
    len: u64,
}

impl Body {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { store, memory: Vec::new(), taken: 0, blocks: Vec::new(), len: 0 }
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let is_spilled = self.len > self.memory.len() as u64;
        if !is_spilled && self.grow(bytes.len()) {
            self.memory.extend_from_slice(bytes);
            self.len += bytes.len() as u64;
            return Ok(());
        }
        self.spill(bytes).map_err(|error| self.store.error("write", error))
    }

    /// Makes room in memory, twice as much as there is if the budget allows.
    fn grow(&mut self, additional: usize) -> bool {
        let capacity = self.memory.capacity();
        let needed = self.memory.len().saturating_add(additional);
        if needed <= capacity {
            return true;
        }
        let ample = needed.max(capacity.saturating_mul(2)).max(FIRST_BYTES);
        let Some(target) =
            [ample, needed].into_iter().find(|target| self.store.take_memory(target.saturating_sub(self.taken)))
        else {
            return false;
        };
        self.memory.reserve_exact(target - self.memory.len());
        self.taken = target;
        true
    }

    /// Gives back what the growing took too much.
    fn shrink(&mut self) {
        self.memory.shrink_to_fit();
        let excess = self.taken.saturating_sub(self.memory.capacity());
        self.taken -= excess;
        self.store.give_memory(excess);
    }

    fn spill(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (index, within) = self.block_of(self.len);
            let block = match self.blocks.get(index) {
                Some(&block) => block,
                None => {
                    let block = self.store.take_block();
                    self.blocks.push(block);
                    block
                }
            };
            let room = usize::try_from(BLOCK_BYTES - within).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.store.file()?.write_all_at(now, block + within)?;
            self.len += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    /// Returns which block has the byte at `position`, and where in it.
    fn block_of(&self, position: u64) -> (usize, u64) {
        let spilled = position.saturating_sub(self.memory.len() as u64);
        (usize::try_from(spilled / BLOCK_BYTES).unwrap_or(usize::MAX), spilled % BLOCK_BYTES)
    }

    /// Reads some bytes; none at the end.
    pub(super) fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let start = usize::try_from(position).unwrap_or(usize::MAX);
        if let Some(rest) = self.memory.get(start..).filter(|rest| !rest.is_empty()) {
            let count = rest.len().min(buffer.len());
            buffer.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            return Ok(count);
        }
        let (index, within) = self.block_of(position);
        let left = self.len.saturating_sub(position).min(BLOCK_BYTES - within);
        let Some(&block) = self.blocks.get(index).filter(|_| left > 0) else { return Ok(0) };
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(target) = buffer.get_mut(..count) else { return Ok(0) };
        self.store.file()?.read_exact_at(target, block + within)?;
        Ok(count)
    }

    /// Compares byte for byte.
    pub(super) fn equals(&self, other: &Self) -> io::Result<bool> {
        if self.len != other.len {
            return Ok(false);
        }
        if self.blocks.is_empty() && other.blocks.is_empty() {
            return Ok(self.memory == other.memory);
        }
        let mut position = 0;
        let (mut own, mut others) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
        while position < self.len {
            let count = self.read_at(position, &mut own)?;
            let (Some(own), Some(others)) = (own.get(..count), others.get_mut(..count)) else { return Ok(false) };
            other.read_exact_at(position, others)?;
            if count == 0 || own != others {
                return Ok(false);
            }
            position += count as u64;
        }
        Ok(true)
    }

    fn read_exact_at(&self, mut position: u64, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            let count = self.read_at(position, buffer)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            position += count as u64;
            buffer = buffer.get_mut(count..).unwrap_or_default();
        }
        Ok(())
    }

    pub(super) fn cannot_read(&self, error: io::Error) -> Error {
        self.store.error("read", error)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.store.give_memory(self.taken);
        if !self.blocks.is_empty() {
            lock(&self.store.free_blocks).append(&mut self.blocks);
        }
    }
}

/// A finished body that equal ones may share.
pub(super) struct Content {
    key: Key,
    body: Body,
}

impl Content {
    /// Returns the content of the store with the same bytes, or makes one of `body`.
    pub(super) fn share(mut body: Body, hash: u64) -> Arc<Self> {
        let store = Arc::clone(&body.store);
        let key = Key { len: body.len, hash };
        // Compared outside the lock; two that end at the same moment may both stay.
        let candidates: Vec<Arc<Self>> =
            lock(&store.contents).get(&key).into_iter().flatten().filter_map(Weak::upgrade).collect();
        if let Some(same) = candidates.into_iter().find(|content| content.body.equals(&body).unwrap_or(false)) {
            return same;
        }
        body.shrink();
        let content = Arc::new(Self { key, body });
        lock(&store.contents).entry(key).or_default().push(Arc::downgrade(&content));
        content
    }

    pub(super) fn body(&self) -> &Body {
        &self.body
    }

    pub(super) fn fingerprint(&self) -> (u64, u64) {
        (self.key.len, self.key.hash)
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        let mut contents = lock(&self.body.store.contents);
        if let Some(same) = contents.get_mut(&self.key) {
            same.retain(|content| content.strong_count() > 0);
            if same.is_empty() {
                contents.remove(&self.key);
            }
        }
    }
}
