//! A directory of results: a file for each host and stream, and an index.

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::json::Header;
use super::result::{ResultFields, is_transfer};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, EventKind, HostReport, Note, Sink, Stream};
use open::OpenFiles;

mod name;
mod open;

/// The index's name, which no host's file can have.
const INDEX: &str = "results.jsonl";

/// How many files with one stem are looked at before that is taken for an error.
const MAX_NAMESAKES: usize = 1000;

/// Writes what each host wrote into files of its own, as it arrives, and a line for each host into an index.
///
/// `HOST.stdout` and `HOST.stderr` have the bytes exactly. A host whose command began has both, empty where it wrote nothing;
/// what else a host has is in `results.jsonl`: a line when it is done, with the fields of the [JSON form](super::Json)'s
/// `finished` and `stdout_file` and `stderr_file`, the files' names or null. Characters of a host's name that are not letters,
/// digits or `-_.@+=` are written as `%` and two hexadecimal digits each byte, as is a first `.` or `-`; names that would be
/// too long, or the same where case does not count, are told apart behind a `~`. Where a command is
/// [run again](crate::PoolBuilder::retry_op), its files begin anew.
///
/// At most 64 files are open at a time. Every line of the index is written at once, when the host's files are complete: what is
/// in it stays true when the program is killed.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use fleet::{Exec, Host, Outputs, Pool, RunControl, sink::OutDir};
/// use fleet::fake::{FakeTransport, Reply};
///
/// let fake = FakeTransport::new();
/// fake.host("web01").on("uname", Reply::new().stdout("Linux\n"));
/// let dir = tempfile::tempdir().unwrap();
/// let mut kept = OutDir::create(dir.path().join("results"))?;
/// let pool = Pool::builder(fake).build();
/// let hosts = [Arc::new(Host::new("web01", "10.0.0.1"))];
/// pool.run(&hosts, Exec::new("uname").capture(false), &RunControl::new(), &mut [&mut kept]);
/// assert_eq!(std::fs::read_to_string(dir.path().join("results/web01.stdout")).unwrap(), "Linux\n");
/// # Ok::<(), fleet::Error>(())
/// ```
#[derive(Debug)]
pub struct OutDir {
    dir: PathBuf,
    index: Option<File>,
    /// The stems of the files of hosts in flight.
    stems: HashMap<String, String>,
    open: OpenFiles,
    complete: HashSet<usize>,
    is_transfer: bool,
}

/// A host's line in the index.
#[derive(Serialize)]
struct Entry<'a> {
    #[serde(flatten)]
    finished: ResultFields<'a>,
    stdout_file: Option<String>,
    stderr_file: Option<String>,
}

impl OutDir {
    /// Makes the directory, for this user alone (mode 0700), with those above it; an empty one is taken as it is.
    ///
    /// # Errors
    /// `Usage` when something is in it, so that two runs are never mixed, and when it cannot be made or written to.
    pub fn create(dir: impl Into<PathBuf>) -> Result<Self> {
        let dir = dir.into();
        Self::check(&dir)?;
        let failed = |cause| cannot_write(&dir, cause);
        if let Some(above) = dir.parent().filter(|above| !above.as_os_str().is_empty()) {
            fs::create_dir_all(above).map_err(failed)?;
        }
        match DirBuilder::new().mode(0o700).create(&dir) {
            Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => return Err(failed(cause)),
            _ => {}
        }
        tempfile::tempfile_in(&dir).map_err(failed)?;
        Ok(Self {
            open: OpenFiles::new(dir.clone()),
            dir,
            index: None,
            stems: HashMap::new(),
            complete: HashSet::new(),
            is_transfer: false,
        })
    }

    /// Tells whether [`create`](Self::create) would take a directory that is there; makes nothing.
    ///
    /// # Errors
    /// `Usage` when it is not empty, not readable, or no directory.
    pub fn check(dir: &Path) -> Result<()> {
        match fs::read_dir(dir).map(|mut entries| entries.next()) {
            Ok(None) => Ok(()),
            Ok(Some(_)) => {
                let what = format!("{} is not empty: results need a new or an empty directory", dir.display());
                Err(Error::new(ErrorKind::Usage, what))
            }
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(cause) => Err(cannot_write(dir, cause)),
        }
    }

    /// Tells whether all of a host's results are there: its line in the index, and before it its files.
    pub fn is_complete(&self, report: &HostReport) -> bool {
        self.complete.contains(&report.index)
    }

    fn start(&mut self) -> io::Result<()> {
        let path = self.dir.join(INDEX);
        let made = OpenOptions::new().append(true).create_new(true).open(&path);
        self.index = Some(made.map_err(|error| naming("make", &path, &error))?);
        Ok(())
    }

    fn output(&mut self, host: &str, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let stem = match self.stems.get(host) {
            Some(stem) => stem,
            None => {
                let stem = self.make_files(host)?;
                self.stems.entry(host.to_owned()).or_insert(stem)
            }
        };
        self.open.append(&name::of(stem, stream), bytes)
    }

    /// Makes a host's two files, and returns what their names begin with.
    fn make_files(&mut self, host: &str) -> io::Result<String> {
        let plain = name::stem(host);
        for number in 1..=MAX_NAMESAKES {
            let stem = if number == 1 { plain.clone() } else { format!("{plain}~{number}") };
            let stdout = name::of(&stem, Stream::Stdout);
            if !self.open.make(&stdout)? {
                continue;
            }
            if self.open.make(&name::of(&stem, Stream::Stderr))? {
                return Ok(stem);
            }
            self.open.remove(&stdout)?;
        }
        Err(io::Error::other(format!("{} has no name left for the files of {host}", self.dir.display())))
    }

    fn finished(&mut self, event: &Event, report: &HostReport) -> io::Result<()> {
        let host = report.host.name.as_str();
        let stem = match self.stems.remove(host) {
            Some(stem) => Some(stem),
            // A command that began has files, also without output.
            None if report.error.is_none() => Some(self.make_files(host)?),
            None => None,
        };
        let file = |stream| stem.as_ref().map(|stem| name::of(stem, stream));
        let entry = Entry {
            finished: ResultFields::of(report, self.is_transfer),
            stdout_file: file(Stream::Stdout),
            stderr_file: file(Stream::Stderr),
        };
        for name in [&entry.stdout_file, &entry.stderr_file].into_iter().flatten() {
            self.open.close(name)?;
        }
        let mut line = Vec::new();
        Header::new(event, "finished").join(&mut line, &entry)?;
        line.push(b'\n');
        if let Some(index) = &mut self.index {
            index.write_all(&line).map_err(|error| naming("write", &self.dir.join(INDEX), &error))?;
        }
        self.complete.insert(report.index);
        Ok(())
    }

    /// Empties a host's files: what it wrote before comes again.
    fn begin_anew(&mut self, host: &str) -> io::Result<()> {
        let Some(stem) = self.stems.get(host) else { return Ok(()) };
        [Stream::Stdout, Stream::Stderr].iter().try_for_each(|stream| self.open.empty(&name::of(stem, *stream)))
    }
}

impl Sink for OutDir {
    fn handle(&mut self, event: &Event) -> io::Result<()> {
        match &event.kind {
            EventKind::Started { op, .. } => {
                self.is_transfer = is_transfer(op);
                self.start()
            }
            EventKind::Output { host, stream, bytes } => self.output(&host.name, *stream, bytes),
            EventKind::Note { host, note: Note::Retrying { .. } } => self.begin_anew(&host.name),
            EventKind::Finished(report) => self.finished(event, report),
            _ => Ok(()),
        }
    }
}

fn cannot_write(dir: &Path, cause: io::Error) -> Error {
    Error::new(ErrorKind::Usage, format!("cannot write to {}", dir.display())).caused_by(cause)
}

/// Names the file in an error that is told without its cause.
fn naming(verb: &str, path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {verb} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
