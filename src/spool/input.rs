//! Local data for the standard input of many hosts: read once, kept in a spool, served to each from its start.

use std::fmt;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::thread::{Builder, JoinHandle};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::SpoolSet;
use super::store::Body;
use crate::error::{Error, ErrorKind, Result};

/// How far the source is read ahead of the fastest host, in bytes.
const AHEAD: u64 = 1024 * 1024;

/// How much is read from the source at once, in bytes.
const CHUNK: usize = 64 * 1024;

/// What every host of a run gets as its command's standard input. Cheap to clone: clones are the same input.
///
/// The source is read once, at most 1 MiB ahead of the fastest host, and kept in the run's spool: a slow host delays no other, and
/// hosts that begin later, in another wave or attempt, get it from its start. It may be of any size and any bytes, a pipe or a
/// terminal too. Nothing is read before the first host asks.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use fleet::fake::{FakeTransport, Reply};
/// use fleet::{Exec, Host, Input, Pool};
///
/// let fake = FakeTransport::new();
/// fake.host("web01").otherwise(Reply::new().echo());
/// fake.host("web02").otherwise(Reply::new().echo());
///
/// let hosts = ["web01", "web02"].map(|name| Arc::new(Host::new(name, name)));
/// let exec = Exec::new("tee config").stdin(Input::from_bytes("color = blue\n"));
/// for result in Pool::builder(fake.clone()).build().map(&hosts, exec) {
///     assert_eq!(result.value().unwrap().stdout.text()?, "color = blue\n");
/// }
/// assert_eq!(fake.calls()[1].stdin, b"color = blue\n");
/// # Ok::<(), fleet::Error>(())
/// ```
#[derive(Clone)]
pub struct Input(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    stop: Mutex<Option<PipeWriter>>,
    reader: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    /// For messages, such as `standard input`.
    name: String,
    spools: OnceLock<SpoolSet>,
    body: OnceLock<RwLock<Body>>,
    state: Mutex<State>,
    /// Rings when a host has come further, or nobody is left.
    asked: Condvar,
}

#[derive(Default)]
struct State {
    source: Option<Source>,
    /// How far the fastest host is.
    wanted: u64,
    /// How much was read.
    have: u64,
    end: Option<Result<()>>,
    waiting: Vec<Waker>,
    is_stopped: bool,
}

enum Source {
    Bytes(Vec<u8>),
    File(File),
}

type Waker = Box<dyn FnOnce() + Send>;

/// What there is at a place of an input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// So many bytes.
    Bytes(usize),
    /// Nothing yet: the waker is called when that changes.
    Pending,
    /// Its end.
    End,
}

impl Input {
    /// Takes a file, which may be a pipe too.
    ///
    /// # Errors
    /// `Usage` when it cannot be opened or is a directory.
    ///
    /// # Blocking
    /// On a named pipe, until somebody writes to it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let open = || {
            let file = File::open(path)?;
            if file.metadata()?.is_dir() { Err(Errno::EISDIR.into()) } else { Ok(file) }
        };
        let file = open().map_err(|error: io::Error| {
            Error::new(ErrorKind::Usage, format!("cannot read {}", path.display())).caused_by(error)
        })?;
        Ok(Self::new(path.display().to_string(), Source::File(file)))
    }

    /// Takes this process's standard input, which nothing else may read then.
    ///
    /// # Errors
    /// `LocalLimit` when there is no descriptor left.
    pub fn stdin() -> Result<Self> {
        let fd = io::stdin()
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| Error::new(ErrorKind::LocalLimit, "cannot duplicate standard input").caused_by(error))?;
        Ok(Self::from_fd("standard input", fd))
    }

    /// Takes what can be read from a descriptor; `name` is for messages.
    pub fn from_fd(name: impl Into<String>, fd: OwnedFd) -> Self {
        Self::new(name.into(), Source::File(File::from(fd)))
    }

    /// Takes bytes.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self::new("the input".to_owned(), Source::Bytes(bytes.into()))
    }

    fn new(name: String, source: Source) -> Self {
        let shared = Shared {
            name,
            spools: OnceLock::new(),
            body: OnceLock::new(),
            state: Mutex::new(State { source: Some(source), ..State::default() }),
            asked: Condvar::new(),
        };
        Self(Arc::new(Handle { shared: Arc::new(shared), stop: Mutex::default(), reader: Mutex::default() }))
    }

    /// Says where what was read is kept; the first to say so is heard, and only before anything was read.
    pub(crate) fn keep_in(&self, spools: &SpoolSet) {
        // Somebody may have said so already.
        let _ = self.0.shared.spools.set(spools.clone());
    }

    /// Reads what there is at a place, or has `waker` made and called once there is more.
    ///
    /// # Errors
    /// `LocalFile` when the source cannot be read or the spool not be written, `LocalLimit` when no thread can be started.
    pub(crate) fn read_at(&self, position: u64, buffer: &mut [u8], waker: impl FnOnce() -> Waker) -> Result<Piece> {
        self.start()?;
        let shared = &self.0.shared;
        let mut state = shared.lock();
        if position > state.wanted {
            state.wanted = position;
            shared.asked.notify_one();
        }
        if position < state.have {
            drop(state);
            return shared.read_kept(position, buffer);
        }
        match &state.end {
            Some(Ok(())) => Ok(Piece::End),
            Some(Err(error)) => Err(error.clone()),
            None => {
                state.waiting.push(waker());
                Ok(Piece::Pending)
            }
        }
    }

    /// Starts reading, at the first call.
    fn start(&self) -> Result<()> {
        let shared = &self.0.shared;
        let mut state = shared.lock();
        let Some(source) = state.source.take() else { return Ok(()) };
        let mut body = Body::new(shared.spools.get_or_init(SpoolSet::default).0.clone());
        match source {
            Source::Bytes(bytes) => {
                state.end = Some(body.append(&bytes));
                state.have = body.len();
                shared.body.get_or_init(|| RwLock::new(body));
            }
            Source::File(file) => {
                shared.body.get_or_init(|| RwLock::new(body));
                let started = self.read_aside(file);
                if let Err(error) = started {
                    let what = format!("cannot start to read {}", shared.name);
                    state.end = Some(Err(Error::new(ErrorKind::LocalLimit, what).caused_by(error)));
                }
            }
        }
        Ok(())
    }

    fn read_aside(&self, source: File) -> io::Result<()> {
        let (stopped, stop) = io::pipe()?;
        let shared = Arc::clone(&self.0.shared);
        let thread = Builder::new().name("fleet-input".to_owned()).spawn(move || shared.fill(source, &stopped))?;
        *lock(&self.0.stop) = Some(stop);
        *lock(&self.0.reader) = Some(thread);
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn read_kept(&self, position: u64, buffer: &mut [u8]) -> Result<Piece> {
        let Some(body) = self.body.get() else { return Ok(Piece::End) };
        let body = body.read().unwrap_or_else(PoisonError::into_inner);
        body.read_at(position, buffer).map(Piece::Bytes).map_err(|error| body.cannot_read(error))
    }

    /// Reads the source as far as it is wanted, until its end.
    fn fill(&self, mut source: File, stopped: &PipeReader) {
        let mut buffer = vec![0; CHUNK];
        loop {
            let mut state = self.lock();
            while state.have >= state.wanted.saturating_add(AHEAD) && !state.is_stopped {
                state = self.asked.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.is_stopped {
                return;
            }
            drop(state);
            let read = match read_unless(&mut source, stopped, &mut buffer) {
                Ok(Some(count)) => self.keep(buffer.get(..count).unwrap_or_default()),
                Ok(None) => return,
                Err(error) => {
                    Err(Error::new(ErrorKind::LocalFile, format!("cannot read {}", self.name)).caused_by(error))
                }
            };
            let mut state = self.lock();
            let is_over = match read {
                Ok(0) => {
                    state.end = Some(Ok(()));
                    true
                }
                Ok(count) => {
                    state.have += count as u64;
                    false
                }
                Err(error) => {
                    state.end = Some(Err(error));
                    true
                }
            };
            let waiting = std::mem::take(&mut state.waiting);
            drop(state);
            waiting.into_iter().for_each(|wake| wake());
            if is_over {
                return;
            }
        }
    }

    fn keep(&self, bytes: &[u8]) -> Result<usize> {
        if let Some(body) = self.body.get() {
            body.write().unwrap_or_else(PoisonError::into_inner).append(bytes)?;
        }
        Ok(bytes.len())
    }
}

/// Reads, unless nobody is left who wants it: then `None`.
fn read_unless(source: &mut File, stopped: &PipeReader, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        let ready = {
            let mut fds =
                [PollFd::new(source.as_fd(), PollFlags::POLLIN), PollFd::new(stopped.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) => fds.map(|fd| fd.any().unwrap_or(false)),
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
        };
        let [is_readable, is_stopped] = ready;
        if is_stopped {
            return Ok(None);
        }
        if !is_readable {
            continue;
        }
        match source.read(buffer) {
            // A descriptor that others use too may be non-blocking, and they may have been faster.
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            read => return read.map(Some),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.lock().is_stopped = true;
        self.shared.asked.notify_one();
        drop(lock(&self.stop).take());
        if let Some(reader) = lock(&self.reader).take() {
            // A panic of the reader has been reported by its thread.
            let _ = reader.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PartialEq for Input {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Input {}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("name", &self.0.shared.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::mpsc;

    use super::*;

    /// Reads from a place on until the end, waiting where nothing is there yet.
    fn read_from(input: &Input, mut position: u64) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        let mut buffer = vec![0; 10_000];
        loop {
            let (woken, wake) = mpsc::channel();
            match input.read_at(position, &mut buffer, || Box::new(move || woken.send(()).unwrap()))? {
                Piece::Bytes(count) => {
                    all.extend_from_slice(&buffer[..count]);
                    position += count as u64;
                }
                Piece::Pending => wake.recv().unwrap(),
                Piece::End => return Ok(all),
            }
        }
    }

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    }

    #[test]
    fn every_reader_gets_every_byte_from_the_start() {
        let bytes = pattern(3_000_000);
        for memory in [0, 100_000, 32 * 1024 * 1024] {
            let (source, mut sink) = io::pipe().unwrap();
            let input = Input::from_fd("a pipe", source.into());
            input.keep_in(&SpoolSet::with_memory(memory));
            std::thread::scope(|scope| {
                let readers: Vec<_> = (0..4).map(|_| scope.spawn(|| read_from(&input, 0).unwrap())).collect();
                for chunk in bytes.chunks(70_001) {
                    sink.write_all(chunk).unwrap();
                }
                drop(sink);
                for reader in readers {
                    assert!(reader.join().unwrap() == bytes);
                }
            });
            assert!(read_from(&input, 0).unwrap() == bytes);
        }
    }

    #[test]
    fn the_source_is_read_no_further_than_the_fastest_needs() {
        let (mut source, sink) = io::pipe().unwrap();
        let probe = source.try_clone().unwrap();
        let writer = std::thread::spawn(move || {
            let mut sink = sink;
            let mut written = 0;
            // Ends when the last reader is gone.
            while let Ok(count) = sink.write(&[7; 4096]) {
                written += count as u64;
            }
            written
        });
        let input = Input::from_fd("a pipe", probe.into());
        let mut buffer = [0; 1000];
        let (woken, wake) = mpsc::channel();
        let piece = input.read_at(0, &mut buffer, || Box::new(move || woken.send(()).unwrap())).unwrap();
        if piece == Piece::Pending {
            wake.recv().unwrap();
        }
        // The next read after what is kept finds the pipe's writer blocked: the reader has stopped, and all it took is kept.
        let shared = Arc::clone(&input.0.shared);
        while shared.lock().have < AHEAD {
            std::thread::yield_now();
        }
        drop(input);
        let taken = shared.lock().have;
        assert!((AHEAD..AHEAD + CHUNK as u64).contains(&taken), "{taken}");
        let mut rest = [0; 4096];
        source.read_exact(&mut rest).unwrap();
        drop(source);
        assert!(writer.join().unwrap() >= taken);
    }

    #[test]
    fn bytes_and_nothing_are_inputs() {
        assert_eq!(read_from(&Input::from_bytes(b"abc".to_vec()), 0).unwrap(), b"abc");
        assert_eq!(read_from(&Input::from_bytes(b"abc".to_vec()), 2).unwrap(), b"c");
        assert_eq!(read_from(&Input::from_bytes(Vec::new()), 0).unwrap(), b"");
        assert_eq!(read_from(&Input::open("/dev/null").unwrap(), 0).unwrap(), b"");
    }

    #[test]
    fn what_cannot_be_read_says_so() {
        for path in ["/no/such/file", "/"] {
            assert_eq!(Input::open(path).unwrap_err().kind(), ErrorKind::Usage);
        }
        // Reading a process's memory at its start is an error of the read alone.
        let input = Input::open("/proc/self/mem").unwrap();
        for _ in 0..2 {
            let error = read_from(&input, 0).unwrap_err();
            assert_eq!(
                (error.kind(), error.to_string().as_str()),
                (ErrorKind::LocalFile, "cannot read /proc/self/mem")
            );
        }
    }

    #[test]
    fn an_input_that_nobody_writes_to_ends_with_its_last_handle() {
        let (source, sink) = io::pipe().unwrap();
        let input = Input::from_fd("a pipe", source.into());
        assert_eq!(input.read_at(0, &mut [0], || Box::new(|| {})).unwrap(), Piece::Pending);
        drop(input.clone());
        drop(input);
        // The reader was joined and its end of the pipe closed: nobody can write any more.
        let mut sink = sink;
        assert_eq!(sink.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
