//! The one way an operation is run: hosts, outputs, signals, exit code.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use fleet::event::{HostKeyAction, HostReport, Note, StopReason};
use fleet::pool::{DEFAULT_MAX_OUTPUT, PoolBuilder, RunControl, WaveEnd};
use fleet::sink::{
    Csv, CsvOptions, Fold, FoldOptions, Json, JsonLines, JsonLinesOptions, JsonOptions, Ordered, OutDir, Status,
    StatusOptions, Table, TableOptions, Target, Text, TextOptions, csv_row, escape,
};
use fleet::spool::SpoolSet;
use fleet::transport::{NOTHING_TO_LOG_IN_WITH, PASSWORD_NEEDED, TERMINAL_NEEDED};
use fleet::{
    Class, ErrorKind, Event, EventKind, Host, Operation, Outputs, Pattern, Pool, Route, Sink, SshTransport, Stop,
    Stream, Transport, hostset,
};
use unicode_width::UnicodeWidthStr;

use super::args::{BecomeUser, ColorWhen, Connect, Ending, Format, Lines, Output, ProgressWhen, Run, Select};
use super::exit::{self, Refusal};
use super::folding::{Folding, Whole};
use super::plan::{self, Selection};
use super::progress::Progress;
use super::prompt;
use super::screen::{Screen, Writer, json_line};
use super::{enter, keys};
use super::{signal, usage};

/// To how many columns names are padded at most.
const MAX_NAME_COLUMNS: usize = 32;

/// How many hosts a hint names.
const MAX_HINTED: usize = 3;

/// What a verb wants done, in the flags that it shares with others.
pub(crate) struct Request<'a> {
    pub(crate) select: &'a Select,
    pub(crate) connect: &'a Connect,
    pub(crate) run: &'a Run,
    pub(crate) output: &'a Output,
    pub(crate) timeout: Option<Duration>,
    /// How commands are ended, where there are any.
    pub(crate) ending: Option<&'a Ending>,
    /// As whom they run.
    pub(crate) become_user: Option<&'a BecomeUser>,
    /// How a command's lines are shown, where there are any.
    pub(crate) lines: Option<&'a Lines>,
    /// What makes records of outputs.
    pub(crate) pattern: Option<Pattern>,
    /// Where each host's output is kept too.
    pub(crate) out_dir: Option<&'a Path>,
    pub(crate) same_output: Option<u8>,
    pub(crate) retry_op: Option<u32>,
    /// What is done, for people, such as `exec: df -h`.
    pub(crate) what: String,
}

/// Tells what is done on a host that has a place, from 0, among so many.
type Each<'a> = dyn Fn(&Host, usize, usize) -> Result<String, Refusal> + 'a;

impl Request<'_> {
    /// Runs what `make` makes on the selected hosts, and returns the exit code. A dry run makes nothing.
    pub(crate) fn run<O: Operation>(
        &self,
        make: impl FnOnce() -> fleet::Result<O>,
        screen: &Screen,
    ) -> Result<ExitCode, Refusal> {
        self.run_in_two(|| Ok(make()?), |op, _, _| Ok(op), &self.alike(), screen)
    }

    fn alike(&self) -> impl Fn(&Host, usize, usize) -> Result<String, Refusal> {
        |_, _, _| Ok(self.what.clone())
    }

    /// Does the same with something else on each host: `each` looks at a host, its place from 0 and how many there are before
    /// any is contacted, and returns what is done there, for people.
    pub(crate) fn run_each<O: Operation>(
        &self,
        make: impl FnOnce() -> fleet::Result<O>,
        each: &Each<'_>,
        screen: &Screen,
    ) -> Result<ExitCode, Refusal> {
        self.run_in_two(|| Ok(make()?), |op, _, _| Ok(op), each, screen)
    }

    /// Does the same with an operation that depends on the hosts and on what can log in to them.
    pub(crate) fn run_with<O: Operation>(
        &self,
        make: impl FnOnce(&SshTransport, &[Arc<Host>]) -> Result<O, Refusal>,
        screen: &Screen,
    ) -> Result<ExitCode, Refusal> {
        self.run_in_two(|| Ok(()), |(), transport, hosts| make(transport, hosts), &self.alike(), screen)
    }

    /// Makes the operation before anybody is asked for a secret, and finishes it when all is known.
    fn run_in_two<T, O: Operation>(
        &self,
        begin: impl FnOnce() -> Result<T, Refusal>,
        finish: impl FnOnce(T, &SshTransport, &[Arc<Host>]) -> Result<O, Refusal>,
        each: &Each<'_>,
        screen: &Screen,
    ) -> Result<ExitCode, Refusal> {
        let lines = self.lines()?;
        self.run.check(self.same_output)?;
        if self.run.confirm && !self.run.rollout.is_empty() && !prompt::has_terminal() {
            return Err(Refusal::usage("--confirm has nobody to ask: there is no terminal"));
        }
        if let Some(dir) = self.out_dir {
            OutDir::check(dir).map_err(|error| Refusal::from(error).hint("name another with -O"))?;
        }
        let mut selection = Selection::make(self.select, self.connect)?;
        selection.order(self.run.order);
        if !self.output.quiet {
            selection.tell(screen);
        }
        if self.become_user.is_some() {
            selection.run_commands(self.become_user)?;
        }
        if self.run.dry_run {
            return self.rehearse_each(&selection, each, screen);
        }
        let begun = begin()?;
        let mut hosts = selection.resolve(self.connect, screen, self.output.quiet)?;
        drop(selection);
        self.check_become_user(&hosts)?;
        let mut kept = self.out_dir.map(OutDir::create).transpose()?;
        for (index, host) in hosts.iter().enumerate() {
            each(host, index, hosts.len())?;
        }
        if let Err(error) = fleet::raise_descriptor_limit()
            && self.output.verbose > 0
        {
            screen.warn(&error.chain());
        }
        let transport = SshTransport::new();
        keys::unlock(&transport, &mut hosts)?;
        keys::load(&transport, &hosts, screen, self.output.quiet)?;
        let op = finish(begun, &transport, &hosts)?;

        let control = RunControl::new();
        match &kept {
            // Somebody still gets the results.
            Some(_) => screen.outlive_readers(),
            None => {
                let on_close = control.clone();
                screen.on_close(move || on_close.stop(Stop::Abort, StopReason::Output));
            }
        }
        let mut form = self.form(&lines, &hosts, screen, &control)?;
        let mut status = self.status(&lines, screen);
        let mut progress = self.progress(&lines, screen, &control)?;
        let mut changed = ChangedKeys::default();
        let mut in_vain = InVain::default();
        let mut sinks: Vec<&mut dyn Sink> = Vec::with_capacity(5);
        // The progress line goes first: it has left when the last words come.
        sinks.extend(progress.as_mut().map(|progress| progress as &mut dyn Sink));
        // What is shown is in its file by then.
        sinks.extend(kept.as_mut().map(|kept| kept as &mut dyn Sink));
        sinks.push(&mut *form);
        sinks.push(&mut status);
        sinks.push(&mut changed);
        sinks.push(&mut in_vain);

        let _listener = signal::Listener::start(control.clone(), screen.clone())?;
        let _enter = self.listen_to_enter(&hosts, &control, screen)?;
        let mut decide = |end: &WaveEnd| prompt::next_wave(end, &control, screen);
        let mut outputs = sinks.iter_mut().fold(Outputs::new(), |outputs, sink| outputs.sink(&mut **sink));
        if let Some(pattern) = &self.pattern {
            outputs = outputs.records(pattern.clone());
        }
        if self.run.confirm {
            outputs = outputs.between_waves(&mut decide);
        }
        let mut ran: Vec<Arc<HostReport>> = Vec::new();
        let summary = self.pool(transport).build().run_with(&hosts, op, &control, outputs, |result| {
            if self.out_dir.is_some() && result.class() != Class::NotStarted {
                ran.push(result.report);
            }
        });
        if let (Some(dir), Some(kept)) = (self.out_dir, &kept) {
            tell_missing(dir, ran.iter().filter(|report| !kept.is_complete(report)), screen);
        }
        self.hint_at(&changed, screen);
        if let Some(hint) = in_vain.hint().filter(|_| !self.output.quiet) {
            screen.hint(hint);
        }
        Ok(exit::of_run(&summary, screen.is_closed()))
    }

    fn check_become_user(&self, hosts: &[Arc<Host>]) -> Result<(), Refusal> {
        self.become_user.map_or(Ok(()), |flags| flags.check(hosts.iter().map(|host| &**host)))
    }

    /// Listens to Enter where nobody else may ask something on the terminal meanwhile.
    fn listen_to_enter(
        &self,
        hosts: &[Arc<Host>],
        control: &RunControl,
        screen: &Screen,
    ) -> Result<Option<enter::Watcher>, Refusal> {
        // A `ProxyCommand` such as ssh may ask for a password.
        let may_be_asked = self.run.confirm || hosts.iter().any(|host| matches!(host.route, Route::Command(_)));
        if may_be_asked { Ok(None) } else { Ok(enter::Watcher::start(control.clone(), screen.clone())?) }
    }

    /// Says how the keys of hosts that were installed anew are replaced.
    pub(crate) fn hint_at(&self, changed: &ChangedKeys, screen: &Screen) {
        if changed.0.is_empty() || self.output.quiet {
            return;
        }
        let path = |flag: &str, path: Option<&Path>| {
            path.map(|path| format!(" {flag} {}", usage::quoted(&path.to_string_lossy()))).unwrap_or_default()
        };
        let Connect { ssh_config, known_hosts, jump, port, .. } = self.connect;
        let from = [
            self.select.inventory.iter().map(|named| path("-i", Some(named))).collect(),
            path("-F", ssh_config.as_deref()),
            path("--known-hosts", known_hosts.as_deref()),
            jump.as_ref().map(|jump| format!(" -J {}", usage::quoted(jump))).unwrap_or_default(),
            port.map(|port| format!(" -p {port}")).unwrap_or_default(),
        ]
        .concat();
        let shown = changed.0.iter().take(MAX_HINTED);
        let names: String = shown.map(|name| format!(" --replace {}", usage::quoted(name))).collect();
        let more = if changed.0.len() > MAX_HINTED { " …" } else { "" };
        screen.hint(&format!("fleet trust{from}{names}{more} takes the new key of a host that was installed anew"));
    }

    pub(crate) fn pool(&self, transport: impl Transport + 'static) -> PoolBuilder {
        let Output { format, verbose, .. } = *self.output;
        let builder = Pool::builder(transport)
            .handshakes(self.connect.handshakes)
            .timeout(plan::limit(self.timeout))
            .deadline(plan::limit(self.run.deadline))
            .max_fail(self.run.threshold())
            .splay(self.run.splay.unwrap_or_default())
            .rollout(self.run.rollout.iter().copied())
            .same_output(self.same_output)
            .retry_op(self.retry_op.unwrap_or_default())
            .phase_events(verbose > 1 || (verbose > 0 && format == Format::Json));
        let builder = match self.run.fanout {
            Some(fanout) => builder.fanout(fanout),
            None => builder,
        };
        let Some(ending) = self.ending else { return builder };
        let builder = match ending.max_output {
            Some(max) => builder.max_output_bytes(Some(max).filter(|max| *max > 0)),
            None if format.is_capturing() || self.lines().is_ok_and(|lines| lines.is_kept()) => {
                builder.max_output_bytes(DEFAULT_MAX_OUTPUT)
            }
            None => builder,
        };
        let builder = builder.idle_timeout(plan::limit(ending.idle_timeout)).guard(!ending.no_guard);
        match ending.kill_after {
            Some(kill_after) => builder.kill_after(kill_after),
            None => builder,
        }
    }

    /// Returns how lines are shown, or refuses what contradicts the form.
    fn lines(&self) -> Result<Lines, Refusal> {
        self.lines.map_or_else(|| Ok(Lines::default()), |lines| lines.for_format(self.output.format))
    }

    pub(crate) fn form(
        &self,
        lines: &Lines,
        hosts: &[Arc<Host>],
        screen: &Screen,
        control: &RunControl,
    ) -> Result<Box<dyn Sink>, Refusal> {
        let stdout = screen.writer(Stream::Stdout);
        let terminal = screen.is_terminal(Stream::Stdout);
        match self.output.format {
            Format::Text => {}
            Format::Json => {
                let mut options = JsonOptions::default();
                options.phases = self.output.verbose > 0;
                options.terminal = terminal;
                return Ok(Box::new(Json::new(stdout, options)));
            }
            Format::Jsonl => {
                let mut options = JsonLinesOptions::default();
                options.terminal = terminal;
                options.records = self.pattern.is_some();
                return Ok(Box::new(JsonLines::new(stdout, options)));
            }
            Format::Csv => {
                let mut options = CsvOptions::default();
                options.terminal = terminal;
                options.fields = self.pattern.as_ref().map(|pattern| pattern.fields().to_vec());
                return Ok(Box::new(Csv::new(stdout, options)));
            }
        }
        if lines.is_folded() {
            let mut options = FoldOptions::default();
            options.diff = lines.diff;
            options.stdout = self.target(Stream::Stdout, screen);
            options.stderr = self.target(Stream::Stderr, screen);
            let fold = Fold::new(stdout, screen.writer(Stream::Stderr), options);
            if !(self.has_progress(screen) && screen.is_terminal(Stream::Stderr)) {
                return Ok(Box::new(fold));
            }
            let color = self.target(Stream::Stderr, screen).color;
            let whole = Whole { control: control.clone(), hosts: hosts.len(), color };
            return Ok(Box::new(Folding::start(fold, whole, screen)?));
        }
        let mut options = TextOptions::default();
        options.prefix = !lines.no_prefix;
        options.stdout = self.target(Stream::Stdout, screen);
        options.stderr = self.target(Stream::Stderr, screen);
        let widest = hosts.iter().map(|host| host.name.width()).max().unwrap_or(0);
        options.name_columns = widest.min(MAX_NAME_COLUMNS);
        options.columns = |name| name.width();
        if let Some(pattern) = &self.pattern {
            let mut table = TableOptions::of(pattern);
            table.text = options;
            return Ok(Box::new(Table::new(stdout, screen.writer(Stream::Stderr), table)));
        }
        let text = Text::new(stdout, screen.writer(Stream::Stderr), options);
        if lines.ordered {
            return Ok(Box::new(Ordered::new(text, hosts, SpoolSet::default())));
        }
        Ok(Box::new(text))
    }

    pub(crate) fn status(&self, lines: &Lines, screen: &Screen) -> Status<Writer> {
        let mut options = StatusOptions::default();
        options.verbose = self.output.verbose;
        options.quiet = self.output.quiet;
        // Who decides whether the next wave begins wants to know at once.
        options.grouped = lines.is_folded() && self.run.rollout.is_empty();
        options.color = self.target(Stream::Stderr, screen).color;
        Status::new(screen.own_writer(), options)
    }

    pub(crate) fn progress(
        &self,
        lines: &Lines,
        screen: &Screen,
        control: &RunControl,
    ) -> Result<Option<Progress>, Refusal> {
        let progress = self.has_progress(screen).then(|| Progress::start(screen, control.clone(), lines.is_folded()));
        Ok(progress.transpose()?)
    }

    /// Tells whether it is shown how far the run is.
    fn has_progress(&self, screen: &Screen) -> bool {
        match self.output.progress {
            Some(ProgressWhen::Always) => true,
            Some(ProgressWhen::Never) => false,
            Some(ProgressWhen::Auto) | None => screen.is_terminal(Stream::Stderr) && !self.output.quiet,
        }
    }

    fn target(&self, stream: Stream, screen: &Screen) -> Target {
        let mut target = Target::default();
        target.terminal = screen.is_terminal(stream);
        target.color = match self.output.color {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto => target.terminal && may_color(),
        };
        target
    }

    /// Shows what would be done, and where.
    pub(crate) fn rehearse(&self, selection: &Selection, screen: &Screen) -> Result<ExitCode, Refusal> {
        self.rehearse_each(selection, &self.alike(), screen)
    }

    fn rehearse_each(&self, selection: &Selection, each: &Each<'_>, screen: &Screen) -> Result<ExitCode, Refusal> {
        let hosts = selection.resolve_for_show(self.connect)?;
        self.check_become_user(&hosts)?;
        let done: Vec<String> =
            hosts.iter().enumerate().map(|(index, host)| each(host, index, hosts.len())).collect::<Result<_, _>>()?;
        let fanout = self.run.fanout.map_or(256, usize::from).min(hosts.len());
        if !self.output.quiet {
            let count = hosts.len();
            let noun = if count == 1 { "host" } else { "hosts" };
            screen.say(&format!("dry run: {count} {noun}, {fanout} at once, nothing is contacted"));
        }
        let row = |(host, what): (&Arc<Host>, &String)| {
            let Host { name, user, address, port, .. } = &**host;
            match self.output.format {
                Format::Text => format!("{name}: {}{}: {what}\n", plan::login(host), plan::via(host)),
                Format::Json | Format::Jsonl => {
                    json_line(&Planned { event: "planned", host: name, user, address, port: *port, what })
                }
                Format::Csv => csv_row([name, user, address, &port.to_string(), what]),
            }
        };
        let mut text = String::new();
        if self.output.format == Format::Csv {
            text.push_str(&csv_row(["host", "user", "address", "port", "what"]));
        }
        text.extend(hosts.iter().zip(&done).map(row));
        // Whether somebody reads it is told by the code.
        let _ = screen.writer(Stream::Stdout).write_all(text.as_bytes());
        Ok(exit::of_listing(screen.is_closed()))
    }
}

/// Says whose results a directory does not have, or not whole.
fn tell_missing<'a>(dir: &Path, missing: impl Iterator<Item = &'a Arc<HostReport>>, screen: &Screen) {
    let names: Vec<&str> = missing.map(|report| report.host.name.as_str()).collect();
    if names.is_empty() {
        return;
    }
    let noun = if names.len() == 1 { "host" } else { "hosts" };
    let (dir, count, hosts) = (dir.display().to_string(), names.len(), hostset::fold(names));
    screen.say(&escape(&format!("{dir}: the results of {count} {noun} are missing or not whole: {hosts}")));
}

/// The hosts that were refused because their keys changed.
#[derive(Default)]
pub(crate) struct ChangedKeys(Vec<String>);

impl Sink for ChangedKeys {
    fn handle(&mut self, event: &Event) -> io::Result<()> {
        if let EventKind::Note { host, note: Note::HostKey { action: HostKeyAction::Changed, .. } } = &event.kind
            && !self.0.contains(&host.name)
        {
            self.0.push(host.name.clone());
        }
        Ok(())
    }
}

/// What a login or sudo wanted and was not given.
#[derive(Default)]
struct InVain {
    login: bool,
    password: bool,
    terminal: bool,
}

impl InVain {
    fn hint(&self) -> Option<&'static str> {
        match self {
            Self { password: true, .. } => {
                Some("-K asks for it once; become_password = \"env:NAME\" in the inventory gives one to each host")
            }
            Self { terminal: true, .. } => Some("--pty gives it one"),
            Self { login: true, .. } => Some("-I PATH names a private key, -A asks for the password"),
            _ => None,
        }
    }
}

impl Sink for InVain {
    fn handle(&mut self, event: &Event) -> io::Result<()> {
        if let EventKind::Finished(report) = &event.kind
            && let Some(error) = &report.error
            && matches!(error.kind(), ErrorKind::Become | ErrorKind::Login)
        {
            let what = error.to_string();
            self.login |= what.starts_with(NOTHING_TO_LOG_IN_WITH);
            self.password |= what == PASSWORD_NEEDED;
            self.terminal |= what == TERMINAL_NEEDED;
        }
        Ok(())
    }
}

#[derive(serde::Serialize)]
struct Planned<'a> {
    event: &'a str,
    host: &'a str,
    user: &'a str,
    address: &'a str,
    port: u16,
    what: &'a str,
}

/// Tells whether a terminal may be sent colours (no-color.org).
fn may_color() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
