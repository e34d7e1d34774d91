use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use fleet::event::{HostKeyAction, Note, RunId, StopReason};
use fleet::known_hosts::{self, KnownKey, NewKey, Presented, Recorded, Store, Verdict};
use fleet::op::Scan;
use fleet::pool::RunControl;
use fleet::ssh::KeyScan;
use fleet::{Event, EventKind, Host, Outputs, Sink, SshTransport, Stop, Stream, Summary, hostset};

use crate::cli::args::{Format, LOGIN_FLAGS, Lines, Trust};
use crate::cli::exit::{self, Refusal};
use crate::cli::plan::Selection;
use crate::cli::prompt;
use crate::cli::run::{ChangedKeys, Request};
use crate::cli::screen::Screen;
use crate::cli::{keys, signal, usage};

/// Looks at the hosts' keys, and records those that are unknown.
pub(crate) fn run(args: &Trust, screen: &Screen) -> Result<ExitCode, Refusal> {
    if let Some(flag) = LOGIN_FLAGS.iter().find(|flag| usage::is_flag(std::env::args_os(), flag)) {
        let flag = flag.replace('_', "-");
        return Err(Refusal::usage(format!("--{flag} has no meaning with trust, which logs in nowhere")));
    }
    let format = args.output.format;
    if matches!(format, Format::Jsonl | Format::Csv) {
        let what = format!("--format {} has no meaning with trust, whose keys are events", format.name());
        return Err(Refusal::usage(what).hint("--format json has a line for each key"));
    }
    let mut select = args.select.clone();
    if !select.all && select.hosts.is_empty() && select.group.is_empty() {
        select.hosts.clone_from(&args.replace);
    }
    let request = Request {
        select: &select,
        connect: &args.connect,
        run: &args.run,
        output: &args.output,
        timeout: None,
        ending: None,
        become_user: None,
        lines: None,
        pattern: None,
        out_dir: None,
        same_output: None,
        retry_op: None,
        what: "trust".to_owned(),
    };
    let mut selection = Selection::make(&select, &args.connect)?;
    if let Some(name) = args.replace.iter().find(|name| selection.targets.iter().all(|target| *target.name != **name)) {
        let what = format!("--replace {name} names no selected host");
        return Err(Refusal::usage(what).hint("name each host by itself, as fleet hosts lists it"));
    }
    selection.order(args.run.order);
    if !args.output.quiet {
        selection.tell(screen);
    }
    if args.run.dry_run {
        return request.rehearse(&selection, screen);
    }
    if let Err(error) = fleet::raise_descriptor_limit()
        && args.output.verbose > 0
    {
        screen.warn(&error.chain());
    }
    let mut hosts = selection.resolve_for_keys(&args.connect, screen, args.output.quiet, args.yes)?;
    let transport = SshTransport::new();
    keys::unlock(&transport, &mut hosts)?;
    keys::load(&transport, &hosts, screen, args.output.quiet)?;
    Visit { args, request, hosts, screen, control: RunControl::new() }.run(transport)
}

/// A host and its key.
type Seen = (Arc<Host>, Presented);

/// One look at the hosts, and what follows from it.
struct Visit<'a> {
    args: &'a Trust,
    request: Request<'a>,
    hosts: Vec<Arc<Host>>,
    screen: &'a Screen,
    control: RunControl,
}

impl Visit<'_> {
    fn run(&self, transport: SshTransport) -> Result<ExitCode, Refusal> {
        let on_close = self.control.clone();
        self.screen.on_close(move || on_close.stop(Stop::Abort, StopReason::Output));
        let _listener = signal::Listener::start(self.control.clone(), self.screen.clone())?;
        let mut form = self.request.form(&Lines::default(), &self.hosts, self.screen, &self.control)?;
        let mut status = self.request.status(&Lines::default(), self.screen);
        let mut changed = ChangedKeys::default();
        let mut told = Told { sinks: vec![&mut *form, &mut status, &mut changed], run: None };
        let (mut summary, seen) = self.look(transport, &mut told)?;

        let (known, new): (Vec<Seen>, Vec<Seen>) =
            seen.into_iter().partition(|(_, presented)| presented.verdict == Verdict::Match);
        let mut left = new.len();
        if self.control.stopped().is_none() {
            self.show(&known, &new);
            if self.is_wanted(&new)? {
                left = self.record(&new, &mut told, &mut summary);
            }
        }
        summary.stopped_by = summary.stopped_by.or(self.control.stopped().map(|(_, reason)| reason));
        told.tell(EventKind::RunFinished(summary.clone()));
        self.request.hint_at(&changed, self.screen);
        Ok(exit::of_trust(&summary, left, self.screen.is_closed()))
    }

    /// Returns the keys of all hosts that can be reached, in the order of the hosts.
    fn look(&self, transport: SshTransport, told: &mut Told<'_>) -> Result<(Summary, Vec<Seen>), Refusal> {
        let scan = KeyScan::over(transport).replacing(self.args.replace.iter().cloned());
        // A form for programs says at once what is not going to be recorded.
        let is_final = self.args.output.format == Format::Json && !self.args.yes;
        let pool = self.request.pool(if is_final { scan.strict() } else { scan }).build();
        let mut progress = self.request.progress(&Lines::default(), self.screen, &self.control)?;
        let outputs = progress.as_mut().map_or_else(Outputs::new, |progress| Outputs::new().sink(progress));
        let mut seen: Vec<(usize, Seen)> = Vec::new();
        let summary = pool.run_with(&self.hosts, Scan, &self.control, outputs.sink(told), |result| {
            let host = Arc::clone(result.host());
            let index = result.report.index;
            seen.extend(result.outcome.ok().map(|presented| (index, (host, presented))));
        });
        seen.sort_by_key(|(index, _)| *index);
        Ok((summary, seen.into_iter().map(|(_, seen)| seen).collect()))
    }

    /// Writes the table of what is new, and says what else is to be known of the keys.
    fn show(&self, known: &[Seen], new: &[Seen]) {
        let is_loud = !self.args.output.quiet;
        if self.args.output.format == Format::Text {
            // Whether somebody reads it is told by the code.
            let _ = self.screen.writer(Stream::Stdout).write_all(table(new).as_bytes());
            if is_loud && !known.is_empty() {
                self.screen.say(&format!("{} known already", keys(known.len())));
            }
        }
        for (fingerprint, names) in clones(known.iter().chain(new)).iter().filter(|_| is_loud) {
            let count = names.len();
            let names = hostset::fold(names.iter().map(String::as_str));
            self.screen.warn(&format!(
                "{count} hosts have one key, {fingerprint}: {names}; each can pass for the others: were they cloned?"
            ));
        }
    }

    /// Asks, where it is not settled.
    fn is_wanted(&self, new: &[Seen]) -> Result<bool, Refusal> {
        if new.is_empty() || self.args.yes {
            return Ok(!new.is_empty());
        }
        if self.args.output.format == Format::Json || !prompt::has_terminal() {
            self.screen.say(&format!("{} not recorded: there is no terminal to ask on", keys(new.len())));
            self.screen.hint("compare the fingerprints, then --yes records them");
            return Ok(false);
        }
        let files: BTreeSet<String> =
            new.iter().filter_map(|(host, _)| files_of(host).first().map(|path| path.display().to_string())).collect();
        let files: Vec<String> = files.into_iter().collect();
        let question = format!("record {} in {}?", keys(new.len()), files.join(", "));
        match prompt::confirm(&question, || self.control.stopped().is_some())? {
            Some(true) => Ok(true),
            Some(false) => {
                self.screen.say("nothing was recorded");
                Ok(false)
            }
            None => Ok(false),
        }
    }

    /// Writes each known_hosts file once. Returns how many keys are not in theirs afterwards.
    fn record(&self, new: &[Seen], told: &mut Told<'_>, summary: &mut Summary) -> usize {
        let mut batches: BTreeMap<Vec<PathBuf>, Vec<&Seen>> = BTreeMap::new();
        for seen in new {
            batches.entry(files_of(&seen.0)).or_default().push(seen);
        }
        let store = Store::default();
        let mut left = 0;
        for (files, batch) in batches {
            let Some(path) = files.first() else { continue };
            let new_keys: Vec<NewKey> = batch.iter().map(|seen| self.new_key(seen)).collect();
            let recorded = store.open(&files).and_then(|known| store.record_all(&known, path, &new_keys));
            match recorded {
                Ok(recorded) => {
                    left += batch.iter().zip(recorded).filter(|(seen, what)| !self.tell(seen, what, told)).count();
                }
                Err(error) => {
                    left += batch.len();
                    summary.failed_sink.get_or_insert(error.chain());
                }
            }
        }
        left
    }

    fn new_key(&self, (host, presented): &Seen) -> NewKey {
        let key = NewKey::new(host.known_hosts_name(), presented.blob.clone());
        if self.args.replace.contains(&host.name) { key.replacing() } else { key }
    }

    /// Tells what became of a key, and returns whether known_hosts has it.
    fn tell(&self, (host, presented): &Seen, recorded: &Recorded, told: &mut Told<'_>) -> bool {
        let name = &host.name;
        let action = match recorded {
            Recorded::Added => HostKeyAction::Recorded,
            Recorded::AlreadyThere => HostKeyAction::Known,
            Recorded::Replaced(other) => {
                if let Some(place) = other {
                    self.screen.warn(&format!("{name}: its old key still stands in {place}"));
                }
                HostKeyAction::Replaced
            }
            Recorded::Changed(known) => {
                let KnownKey { place, .. } = known;
                self.screen.warn(&format!("{name}: not recorded: another key came into {place} meanwhile"));
                HostKeyAction::Changed
            }
            Recorded::Revoked(place) => {
                self.screen.warn(&format!("{name}: not recorded: the key is revoked ({place})"));
                return false;
            }
        };
        let (key_type, fingerprint) = (presented.key_type().to_owned(), presented.fingerprint());
        let note = Note::HostKey { action, key_type, fingerprint };
        told.tell(EventKind::Note { host: Arc::clone(host), note });
        action != HostKeyAction::Changed
    }
}

/// Those who hear of the run; they hear of its end only when the keys are recorded.
struct Told<'a> {
    sinks: Vec<&'a mut dyn Sink>,
    run: Option<RunId>,
}

impl Told<'_> {
    /// Tells of something after the run's own events.
    fn tell(&mut self, kind: EventKind) {
        let Some(run) = self.run.clone() else { return };
        let event = Event::now(run, kind);
        for sink in &mut self.sinks {
            // An output that is closed by now is told by the code.
            let _ = sink.handle(&event).and_then(|()| sink.flush());
        }
    }
}

impl Sink for Told<'_> {
    fn handle(&mut self, event: &Event) -> io::Result<()> {
        self.run.get_or_insert_with(|| event.run.clone());
        if matches!(event.kind, EventKind::RunFinished(_)) {
            return Ok(());
        }
        self.sinks.iter_mut().try_for_each(|sink| sink.handle(event))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sinks.iter_mut().try_for_each(|sink| sink.flush())
    }
}

fn files_of(host: &Host) -> Vec<PathBuf> {
    if host.known_hosts.is_empty() { known_hosts::default_files() } else { host.known_hosts.clone() }
}

fn keys(count: usize) -> String {
    if count == 1 { "1 key".to_owned() } else { format!("{count} keys") }
}

/// Writes a line for each new key: its type, its fingerprint, whose it is, and what it would replace.
fn table(new: &[Seen]) -> String {
    let mut rows: Vec<(String, String, Vec<&str>)> = Vec::new();
    let mut places: HashMap<(String, String), usize> = HashMap::new();
    for (host, presented) in new {
        let key = format!("{:19}  {}", presented.key_type(), presented.fingerprint());
        let instead = match &presented.verdict {
            Verdict::Changed(old) | Verdict::OtherTypeKnown(old) => {
                format!("  instead of {} {} ({})", old.key_type, old.fingerprint, old.place)
            }
            _ => String::new(),
        };
        let place = *places.entry((key.clone(), instead.clone())).or_insert(rows.len());
        match rows.get_mut(place) {
            Some((.., names)) => names.push(&host.name),
            None => rows.push((key, instead, vec![&host.name])),
        }
    }
    let row = |(key, instead, names): &(String, String, Vec<&str>)| {
        format!("{key}  {}{instead}\n", hostset::fold(names.iter().copied()))
    };
    rows.iter().map(row).collect()
}

/// Returns the keys that several servers have, with their hosts. One server under several names is no clone.
fn clones<'a>(seen: impl Iterator<Item = &'a Seen>) -> Vec<(String, Vec<String>)> {
    let mut servers: BTreeMap<String, (BTreeSet<String>, Vec<String>)> = BTreeMap::new();
    for (host, presented) in seen {
        let (places, names) = servers.entry(presented.fingerprint()).or_default();
        places.insert(host.known_hosts_name());
        names.push(host.name.clone());
    }
    let several = servers.into_iter().filter(|(_, (places, _))| places.len() > 1);
    several.map(|(fingerprint, (_, names))| (fingerprint, names)).collect()
}
