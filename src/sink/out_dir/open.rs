//! Many files that grow, few of them open.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::PathBuf;

use super::naming;

/// How many files are open at a time: any number of hosts writes, and this machine's descriptors are for connections.
const MAX_OPEN: usize = 64;

/// Files of one directory that bytes are added to.
#[derive(Debug)]
pub(super) struct OpenFiles {
    dir: PathBuf,
    /// By name; the one that was written to last is the last.
    files: Vec<(String, File)>,
}

impl OpenFiles {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, files: Vec::new() }
    }

    /// Makes a file; returns whether there was none of this name.
    pub(super) fn make(&mut self, name: &str) -> io::Result<bool> {
        self.make_room()?;
        let path = self.dir.join(name);
        match OpenOptions::new().append(true).create_new(true).open(&path) {
            Ok(file) => {
                self.files.push((name.to_owned(), file));
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(naming("make", &path, &error)),
        }
    }

    /// Adds bytes to a file that was made.
    pub(super) fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.dir.join(name);
        match self.files.iter().position(|(open, _)| open == name) {
            // The last is the most recent, and most bytes are for it.
            Some(at) => self.files.get_mut(at..).unwrap_or_default().rotate_left(1),
            None => {
                self.make_room()?;
                let file =
                    OpenOptions::new().append(true).open(&path).map_err(|error| naming("open", &path, &error))?;
                self.files.push((name.to_owned(), file));
            }
        }
        match self.files.last_mut() {
            Some((_, file)) => file.write_all(bytes).map_err(|error| naming("write", &path, &error)),
            None => Ok(()),
        }
    }

    /// Takes all bytes out of a file.
    pub(super) fn empty(&mut self, name: &str) -> io::Result<()> {
        self.close(name)?;
        let path = self.dir.join(name);
        let emptied = OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(0));
        emptied.map_err(|error| naming("empty", &path, &error))
    }

    /// Removes a file.
    pub(super) fn remove(&mut self, name: &str) -> io::Result<()> {
        self.close(name)?;
        let path = self.dir.join(name);
        fs::remove_file(&path).map_err(|error| naming("remove", &path, &error))
    }

    /// Closes a file if it is open. Some file systems say only now that there is no room for it.
    pub(super) fn close(&mut self, name: &str) -> io::Result<()> {
        let Some(at) = self.files.iter().position(|(open, _)| open == name) else { return Ok(()) };
        self.close_at(at)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    fn make_room(&mut self) -> io::Result<()> {
        if self.files.len() < MAX_OPEN { Ok(()) } else { self.close_at(0) }
    }

    fn close_at(&mut self, at: usize) -> io::Result<()> {
        let (name, file) = self.files.remove(at);
        nix::unistd::close(file).map_err(|errno| naming("write", &self.dir.join(name), &errno.into()))
    }
}
