//! The folded form: hosts that wrote the same are shown once.

mod block;
mod diff;
mod group;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, Write};

use group::Groups;

use super::captured::{Captured, Captures};
use super::out::{Out, Target};
use crate::event::{Event, EventKind, HostReport, Sink};
use crate::spool::SpoolSet;
pub use group::Group;

/// How [`Fold`] writes.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct FoldOptions {
    /// Shows the first group in full, and what each other has other than that. Default: no.
    pub diff: bool,
    /// Where standard output goes. Default: [`Target::PLAIN`].
    pub stdout: Target,
    /// Where standard error goes. Default: [`Target::PLAIN`].
    pub stderr: Target,
    /// Where outputs are kept. Default: 32 MiB in memory, the rest in one file without a name.
    pub spools: SpoolSet,
}

/// Groups the hosts that wrote the same and ended alike, and writes what each group wrote once, when the run ends.
///
/// ```text
/// ---------------
/// web[01-19] (19)
/// ---------------
/// active
/// ---------------
/// web20 (1): exit status 3
/// ---------------
/// inactive
/// ```
///
/// The largest group comes first; of equal ones that whose first host was submitted first. Standard error has blocks of
/// its own, or, where both streams are a terminal, stands below `--- stderr`. Hosts that nothing was heard of (unreachable, never
/// started) have no block. A rollout's blocks come at the end of each wave. Outputs are the same only if every byte is;
/// they are compared as they come: no more than one copy of each is kept, and of those only [`FoldOptions::spools`] allows
/// in memory.
///
/// # Examples
///
/// ```
/// use fleet::fake::{FakeTransport, Reply};
/// use fleet::pool::RunControl;
/// use fleet::sink::{Fold, FoldOptions};
/// use fleet::{Exec, Host, Pool};
/// use std::sync::Arc;
///
/// let fake = FakeTransport::new();
/// fake.answer(|host, _| Some(Reply::new().stdout(if host == "web2" { "6.5\n" } else { "6.1\n" })));
/// let hosts = ["web1", "web2", "web3"].map(|name| Arc::new(Host::new(name, name)));
/// let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
/// let mut fold = Fold::new(&mut stdout, &mut stderr, FoldOptions::default());
/// Pool::builder(fake).build().run(&hosts, Exec::new("uname -r"), &RunControl::new(), &mut [&mut fold]);
/// drop(fold);
/// let rule = "---------------";
/// let expected = format!("{rule}\nweb[1,3] (2)\n{rule}\n6.1\n{rule}\nweb2 (1)\n{rule}\n6.5\n");
/// assert_eq!(String::from_utf8_lossy(&stdout), expected);
/// ```
pub struct Fold<O, E> {
    stdout: Out<O>,
    stderr: Out<E>,
    diff: bool,
    captures: Captures,
    groups: Groups,
    finished: usize,
    /// How many hosts are done when the wave is.
    wave_end: Option<usize>,
}

impl<O: Write + Send, E: Write + Send> Fold<O, E> {
    /// Writes standard output to `stdout` and standard error to `stderr`; neither needs a buffer.
    pub fn new(stdout: O, stderr: E, options: FoldOptions) -> Self {
        Self {
            stdout: Out::new(stdout, options.stdout),
            stderr: Out::new(stderr, options.stderr),
            diff: options.diff,
            captures: Captures::new(options.spools),
            groups: Groups::default(),
            finished: 0,
            wave_end: None,
        }
    }

    /// Returns the groups of the hosts that are done and not written yet, the largest first: what there is to see while the run goes on.
    ///
    /// Each of those hosts is in exactly one group, those that nothing was heard of too.
    pub fn groups(&self) -> Vec<&Group> {
        self.groups.sorted()
    }

    fn finished(&mut self, report: &HostReport) -> io::Result<()> {
        let [stdout, stderr] = self.captures.take(&report.host.name).map(Captured::into_spool);
        let added = self.groups.add(report, stdout, stderr).map_err(|error| io::Error::other(error.chain()));
        self.or_what_there_is(added)?;
        self.finished += 1;
        // Whoever decides whether the next wave begins has seen this one.
        if Some(self.finished) == self.wave_end { self.write_groups() } else { Ok(()) }
    }

    /// Writes what there is when no more can be kept: it would be lost with the rest.
    fn or_what_there_is(&mut self, kept: io::Result<()>) -> io::Result<()> {
        if kept.is_err() {
            self.write_groups()?;
        }
        kept
    }

    fn write_groups(&mut self) -> io::Result<()> {
        let groups = self.groups.take();
        self.write_blocks(&groups)?;
        self.flush()
    }
}

impl<O: Write + Send, E: Write + Send> Sink for Fold<O, E> {
    fn handle(&mut self, event: &Event) -> io::Result<()> {
        match &event.kind {
            EventKind::Output { .. } | EventKind::Note { .. } => {
                let kept = self.captures.hear(&event.kind);
                self.or_what_there_is(kept)
            }
            EventKind::Wave { reaches, .. } => {
                self.wave_end = Some(*reaches);
                Ok(())
            }
            EventKind::Finished(report) => self.finished(report),
            EventKind::RunFinished(_) => self.write_groups(),
            _ => Ok(()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stdout.buffer.write().and(self.stderr.buffer.write())
    }
}

impl<O, E> fmt::Debug for Fold<O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fold").field("diff", &self.diff).field("finished", &self.finished).finish_non_exhaustive()
    }
}
