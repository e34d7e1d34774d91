//! Hosts that ended alike and wrote the same.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use super::super::cause::{cause, words};
use crate::error::{Phase, Result};
use crate::event::{Class, HostReport};
use crate::host::Host;
use crate::hostset;
use crate::spool::Spool;

/// How hosts ended, as far as those that ended alike have it in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Ending {
    class: Class,
    exit_code: Option<i32>,
    phase: Option<Phase>,
    cause: String,
}

impl Ending {
    fn of(report: &HostReport) -> Self {
        let phase = report.phase().filter(|_| !report.is_ok());
        Self { class: report.class(), exit_code: report.facts.exit_code, phase, cause: cause(report) }
    }
}

/// Hosts of a run that wrote the same to standard output and standard error and ended alike: by the same status, or for
/// the same cause in the same phase.
#[derive(Clone, Debug)]
pub struct Group {
    /// With their places in the submission, in that order.
    members: Vec<(usize, Arc<Host>)>,
    ending: Ending,
    stdout: Spool,
    stderr: Spool,
}

impl Group {
    /// Returns its hosts, in the order of their submission.
    pub fn hosts(&self) -> impl ExactSizeIterator<Item = &Arc<Host>> {
        self.members.iter().map(|(_, host)| host)
    }

    /// Returns how many hosts it has; at least one.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// Returns the names of its hosts as one hostset: `web[01-20]`.
    pub fn names(&self) -> String {
        hostset::fold(self.members.iter().map(|(_, host)| host.name.as_str()))
    }

    /// Returns how its hosts ended.
    pub fn class(&self) -> Class {
        self.ending.class
    }

    /// Returns the phase to blame, where the hosts did not end well.
    pub fn phase(&self) -> Option<Phase> {
        self.ending.phase
    }

    /// Returns how its hosts ended, in words, such as `exit status 3`; `None` where they ended well.
    pub fn ending(&self) -> Option<String> {
        let Ending { class, cause, .. } = &self.ending;
        match class {
            Class::Ok => None,
            Class::Failed if !cause.is_empty() => Some(cause.clone()),
            _ if cause.is_empty() => Some(words(*class)),
            _ => Some(format!("{}: {cause}", words(*class))),
        }
    }

    /// Returns what each of its hosts wrote to standard output.
    pub fn stdout(&self) -> &Spool {
        &self.stdout
    }

    /// Returns what each of its hosts wrote to standard error.
    pub fn stderr(&self) -> &Spool {
        &self.stderr
    }

    /// Returns the start of the first line that says something: of standard output, else of standard error.
    ///
    /// # Errors
    /// As [`Spool::bytes`].
    pub fn first_line(&self) -> Result<Option<String>> {
        /// Enough for a line on a screen.
        const GLANCE_BYTES: u64 = 512;
        for spool in [&self.stdout, &self.stderr] {
            let mut bytes = Vec::new();
            spool.reader().take(GLANCE_BYTES).read_to_end(&mut bytes).map_err(|error| spool.cannot_read(error))?;
            let text = String::from_utf8_lossy(&bytes);
            if let Some(line) = text.lines().map(str::trim_end).find(|line| !line.is_empty()) {
                return Ok(Some(line.to_owned()));
            }
        }
        Ok(None)
    }

    pub(super) fn is_silent(&self) -> bool {
        self.stdout.is_empty() && self.stderr.is_empty()
    }

    /// Tells whether its hosts ended by their own command, so that what they wrote is all of it.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.ending.class, Class::Ok | Class::Failed)
    }

    fn rank(&self) -> (Reverse<usize>, Option<usize>) {
        (Reverse(self.members.len()), self.members.first().map(|(index, _)| *index))
    }
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    ending: Ending,
    stdout: (u64, u64),
    stderr: (u64, u64),
}

/// The groups so far: every host that is done is in exactly one.
#[derive(Default)]
pub(super) struct Groups {
    list: Vec<Group>,
    /// Places in the list. What has one key is compared all the same.
    places: HashMap<Key, Vec<usize>>,
}

impl Groups {
    /// Adds a host that is done.
    pub(super) fn add(&mut self, report: &HostReport, stdout: Spool, stderr: Spool) -> Result<()> {
        let ending = Ending::of(report);
        let member = (report.index, Arc::clone(&report.host));
        let key = Key { ending: ending.clone(), stdout: stdout.fingerprint(), stderr: stderr.fingerprint() };
        let places = self.places.entry(key).or_default();
        for place in places.iter() {
            if let Some(group) = self.list.get_mut(*place)
                && group.stdout.same_as(&stdout)?
                && group.stderr.same_as(&stderr)?
            {
                let at = group.members.partition_point(|(index, _)| *index < member.0);
                group.members.insert(at, member);
                return Ok(());
            }
        }
        places.push(self.list.len());
        self.list.push(Group { members: vec![member], ending, stdout, stderr });
        Ok(())
    }

    /// Returns the groups, the largest first; of equal ones that with the first host.
    pub(super) fn sorted(&self) -> Vec<&Group> {
        let mut groups: Vec<&Group> = self.list.iter().collect();
        groups.sort_unstable_by_key(|group| group.rank());
        groups
    }

    /// Takes the groups out, in the same order.
    pub(super) fn take(&mut self) -> Vec<Group> {
        let mut groups = std::mem::take(self).list;
        groups.sort_by_key(Group::rank);
        groups
    }
}
