//! The folded form on a terminal: below all lines, the groups so far. It is gone when their blocks are written.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fleet::pool::RunControl;
use fleet::sink::{Fold, Group, escape};
use fleet::{Error, Event, EventKind, Sink, hostset};
use unicode_width::UnicodeWidthStr;

use super::screen::{Foot, Screen, Size, Writer, shortened};
use super::ticker::Ticker;

/// How often it is drawn.
const REDRAW: Duration = Duration::from_millis(100);
/// Where it stands among the screen's feet: above the progress.
const FOOT: u8 = 1;
/// The rows that it has on the smallest terminal: the most, the rest and who runs.
const MIN_ROWS: usize = 3;

const CYAN: &str = "36";
const RED: &str = "31";

/// Folds, and shows a terminal what it has so far, ten times a second.
pub(crate) struct Folding {
    fold: Arc<Mutex<Fold<Writer, Writer>>>,
    ticker: Option<Ticker>,
}

/// What is known of the run without the groups.
#[derive(Clone)]
pub(crate) struct Whole {
    pub(crate) control: RunControl,
    /// How many hosts it has.
    pub(crate) hosts: usize,
    pub(crate) color: bool,
}

impl Folding {
    /// Starts to show it at the screen's foot.
    pub(crate) fn start(fold: Fold<Writer, Writer>, whole: Whole, screen: &Screen) -> Result<Self, Error> {
        let fold = Arc::new(Mutex::new(fold));
        let (shared, foot) = (Arc::clone(&fold), screen.foot(FOOT));
        let ticker = Ticker::start("fleet-fold", "the groups", move |ticks| {
            let mut glances = Glances::default();
            while ticks.wait(REDRAW) {
                draw(&foot, &shared, &whole, &mut glances);
            }
        })?;
        Ok(Self { fold, ticker: Some(ticker) })
    }
}

fn draw(foot: &Foot, fold: &Mutex<Fold<Writer, Writer>>, whole: &Whole, glances: &mut Glances) {
    let size = Size::now();
    let running = whole.control.in_flight();
    let running = (running.len(), running.iter().map(|flight| flight.host.name.as_str()));
    let rows = {
        let fold = lock(fold);
        let groups = fold.groups();
        // Before the first is done, the progress says all there is to say.
        if groups.is_empty() { Vec::new() } else { rows(&groups, glances, room(size), running) }
    };
    // Not while the groups are held: a slow terminal would keep the run from going on.
    foot.set(lines(&rows, whole, size.free_columns()));
}

impl Sink for Folding {
    fn handle(&mut self, event: &Event) -> io::Result<()> {
        if let EventKind::RunFinished(_) = &event.kind {
            self.ticker = None;
        }
        let done = lock(&self.fold).handle(event);
        if done.is_err() {
            // Nothing is folded any more.
            self.ticker = None;
        }
        done
    }

    fn flush(&mut self) -> io::Result<()> {
        lock(&self.fold).flush()
    }
}

fn lock(fold: &Mutex<Fold<Writer, Writer>>) -> MutexGuard<'_, Fold<Writer, Writer>> {
    fold.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns how many rows of a terminal it may take: with the hosts of the progress it is a third.
fn room(size: Size) -> usize {
    (size.rows / 4).max(MIN_ROWS)
}

/// One row of it.
#[derive(Debug, PartialEq, Eq)]
enum Row {
    Hosts(Glance),
    /// So many groups more, of so many hosts.
    More(usize, usize),
}

/// What is shown of hosts that have something in common.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Glance {
    count: usize,
    names: String,
    what: String,
    color: Option<&'static str>,
}

/// What was shown last, by the first host of each group. A group that has not grown is the same.
#[derive(Default)]
struct Glances(HashMap<String, Glance>);

impl Glances {
    fn of(&mut self, group: &Group, before: &mut HashMap<String, Glance>) -> Glance {
        let first = group.hosts().next().map(|host| host.name.clone()).unwrap_or_default();
        let known = before.remove(&first).filter(|glance| glance.count == group.size());
        let glance = known.unwrap_or_else(|| Glance::of(group));
        self.0.insert(first, glance.clone());
        glance
    }
}

impl Glance {
    fn of(group: &Group) -> Self {
        let ending = group.ending();
        let color = if ending.is_none() { CYAN } else { RED };
        let mut what = escape(ending.as_deref().unwrap_or_default()).into_owned();
        // What cannot be read now is in the blocks, or they say why it is not.
        if let Some(line) = group.first_line().unwrap_or_default() {
            let colon = if what.is_empty() { "" } else { ": " };
            let _ = write!(what, "{colon}\"{}\"", escape(&line));
        } else if what.is_empty() {
            what.push_str("no output");
        }
        Self { count: group.size(), names: escape(&group.names()).into_owned(), what, color: Some(color) }
    }
}

/// Returns the rows of groups, the largest first, and of the hosts that run.
fn rows<'a>(
    groups: &[&Group],
    glances: &mut Glances,
    room: usize,
    running: (usize, impl Iterator<Item = &'a str>),
) -> Vec<Row> {
    let (count, names) = running;
    let room = room - usize::from(count > 0).min(room);
    let shown = if groups.len() <= room { groups.len() } else { room.saturating_sub(1) };
    let mut before = std::mem::take(&mut glances.0);
    let mut rows: Vec<Row> =
        groups.iter().take(shown).map(|group| Row::Hosts(glances.of(group, &mut before))).collect();
    if shown < groups.len() {
        let hosts = groups.iter().skip(shown).map(|group| group.size()).sum();
        rows.push(Row::More(groups.len() - shown, hosts));
    }
    if count > 0 {
        let names = escape(&hostset::fold(names)).into_owned();
        rows.push(Row::Hosts(Glance { count, names, what: "running".to_owned(), color: None }));
    }
    rows
}

/// Writes rows below each other, each in so many columns.
fn lines(rows: &[Row], whole: &Whole, columns: usize) -> Vec<String> {
    let of_whole = format!("/{}", whole.hosts);
    let digits = of_whole.len() - 1;
    let names = rows.iter().map(|row| match row {
        Row::Hosts(glance) => glance.names.width(),
        Row::More(..) => 0,
    });
    // Half of it is for what they have in common.
    let widest = names.max().unwrap_or(0).min(columns.saturating_sub(digits + of_whole.len() + 6) / 2).max(1);
    let line = |row: &Row| match row {
        Row::Hosts(Glance { count, names, what, color }) => {
            let names = shortened(names, widest);
            let padding = " ".repeat(widest.saturating_sub(names.width()));
            let start = format!("  {count:>digits$}{of_whole}  ");
            let rest = columns.saturating_sub(start.width() + widest + 2);
            let names = match color.filter(|_| whole.color) {
                Some(color) => format!("\x1b[{color}m{names}\x1b[0m"),
                None => names,
            };
            format!("{start}{names}{padding}  {}", shortened(what, rest))
        }
        Row::More(groups, hosts) => {
            let groups_noun = if *groups == 1 { "group" } else { "groups" };
            let hosts_noun = if *hosts == 1 { "host" } else { "hosts" };
            shortened(&format!("  and {groups} more {groups_noun} of {hosts} {hosts_noun}"), columns)
        }
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(hosts: usize) -> Whole {
        Whole { control: RunControl::new(), hosts, color: false }
    }

    fn row(count: usize, names: &str, what: &str) -> Row {
        Row::Hosts(Glance { count, names: names.to_owned(), what: what.to_owned(), color: Some(RED) })
    }

    #[test]
    fn rows_stand_below_each_other() {
        let rows = [row(412, "web[001-412]", "\"ok\""), row(1, "db1", "exit status 3"), Row::More(2, 3)];
        let expected = [
            "  412/500  web[001-412]  \"ok\"",
            "    1/500  db1           exit status 3",
            "  and 2 more groups of 3 hosts",
        ];
        assert_eq!(lines(&rows, &whole(500), 80), expected);
        assert_eq!(lines(&[Row::More(1, 1)], &whole(9), 80), ["  and 1 more group of 1 host"]);
    }

    #[test]
    fn a_row_is_never_wider_than_the_terminal() {
        let names = "web[001-100,102-200,202-300,302-400]";
        let rows = [row(397, names, "exit status 3: \"日本語 of some length\""), Row::More(20, 103)];
        let mut coloured = whole(500);
        coloured.color = true;
        for columns in 1..90 {
            let all = lines(&rows, &whole(500), columns);
            // The screen cuts what is not even room for the count.
            assert!(all.iter().all(|line| line.width() <= columns.max(16)), "{columns}: {all:#?}");
            let plain = |line: &String| line.replace("\x1b[31m", "").replace("\x1b[0m", "");
            assert_eq!(lines(&rows, &coloured, columns).iter().map(plain).collect::<Vec<_>>(), all);
        }
        let cut = ["  397/500  web[001-100,102-2…  exit status 3: \"日…", "  and 20 more groups of 103 hosts"];
        assert_eq!(lines(&rows, &whole(500), 50), cut);
    }
}
