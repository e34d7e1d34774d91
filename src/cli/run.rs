//! The one way an operation is run: hosts, outputs, signals, exit code.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use fleet::event::StopReason;
use fleet::pool::{PoolBuilder, RunControl};
use fleet::sink::{Json, JsonOptions, Status, StatusOptions, Target, Text, TextOptions};
use fleet::{Host, Operation, Pool, Sink, SshTransport, Stop, Stream};
use unicode_width::UnicodeWidthStr;

use super::args::{ColorWhen, Connect, Format, Output, Run, Select};
use super::exit::{self, Refusal};
use super::keys;
use super::plan::{self, Selection};
use super::progress::Progress;
use super::screen::{Screen, Writer, json_line};
use super::signal;

/// To how many columns names are padded at most.
const MAX_NAME_COLUMNS: usize = 32;

/// What a verb wants done, in the flags that it shares with others.
pub(crate) struct Request<'a> {
    pub(crate) select: &'a Select,
    pub(crate) connect: &'a Connect,
    pub(crate) run: &'a Run,
    pub(crate) output: &'a Output,
    pub(crate) timeout: Option<Duration>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) no_prefix: bool,
    /// What is done, for people, such as `exec: df -h`.
    pub(crate) what: String,
}

impl Request<'_> {
    /// Runs what `make` makes on the selected hosts, and returns the exit code. A dry run makes nothing.
    pub(crate) fn run<O: Operation>(
        &self,
        make: impl FnOnce() -> fleet::Result<O>,
        screen: &Screen,
    ) -> Result<ExitCode, Refusal> {
        if self.no_prefix && self.output.format == Format::Json {
            return Err(Refusal::usage("-N has no meaning with --format json, which has no prefix"));
        }
        let mut selection = Selection::make(self.select, self.connect)?;
        selection.order(self.run.order);
        if self.run.dry_run {
            return self.rehearse(&selection, screen);
        }
        let op = make()?;
        let mut hosts = selection.resolve(self.connect, screen, self.output.quiet)?;
        drop(selection);
        if let Err(error) = fleet::raise_descriptor_limit()
            && self.output.verbose > 0
        {
            screen.warn(&error.chain());
        }
        let transport = SshTransport::new();
        keys::unlock(&transport, &mut hosts)?;
        keys::load(&transport, &hosts, screen, self.output.quiet)?;

        let control = RunControl::new();
        let on_close = control.clone();
        screen.on_close(move || on_close.stop(Stop::Abort, StopReason::Output));
        let mut form = self.form(&hosts, screen);
        let mut status = self.status(screen);
        let mut progress = self.progress(screen, &control)?;
        let mut sinks: Vec<&mut dyn Sink> = Vec::with_capacity(3);
        // The progress line goes first: it has left when the last words come.
        sinks.extend(progress.as_mut().map(|progress| progress as &mut dyn Sink));
        sinks.push(&mut *form);
        sinks.push(&mut status);

        let _listener = signal::Listener::start(control.clone(), screen.clone())?;
        let summary = self.pool(transport).build().run(&hosts, op, &control, &mut sinks);
        Ok(exit::of_run(&summary, screen.is_closed()))
    }

    fn pool(&self, transport: SshTransport) -> PoolBuilder {
        let Output { format, verbose, .. } = *self.output;
        let builder = Pool::builder(transport)
            .handshakes(self.connect.handshakes)
            .timeout(plan::limit(self.timeout))
            .idle_timeout(plan::limit(self.idle_timeout))
            .deadline(plan::limit(self.run.deadline))
            .max_fail(self.run.threshold())
            .phase_events(verbose > 1 || (verbose > 0 && format == Format::Json));
        match self.run.fanout {
            Some(fanout) => builder.fanout(fanout),
            None => builder,
        }
    }

    fn form(&self, hosts: &[Arc<Host>], screen: &Screen) -> Box<dyn Sink> {
        let stdout = screen.writer(Stream::Stdout);
        if self.output.format == Format::Json {
            let mut options = JsonOptions::default();
            options.phases = self.output.verbose > 0;
            options.terminal = screen.is_terminal(Stream::Stdout);
            return Box::new(Json::new(stdout, options));
        }
        let mut options = TextOptions::default();
        options.prefix = !self.no_prefix;
        options.stdout = self.target(Stream::Stdout, screen);
        options.stderr = self.target(Stream::Stderr, screen);
        let widest = hosts.iter().map(|host| host.name.width()).max().unwrap_or(0);
        options.name_columns = widest.min(MAX_NAME_COLUMNS);
        options.columns = |name| name.width();
        Box::new(Text::new(stdout, screen.writer(Stream::Stderr), options))
    }

    fn status(&self, screen: &Screen) -> Status<Writer> {
        let mut options = StatusOptions::default();
        options.verbose = self.output.verbose;
        options.quiet = self.output.quiet;
        options.color = self.target(Stream::Stderr, screen).color;
        Status::new(screen.own_writer(), options)
    }

    fn progress(&self, screen: &Screen, control: &RunControl) -> Result<Option<Progress>, Refusal> {
        let is_wanted = screen.is_terminal(Stream::Stderr) && !self.output.quiet;
        let progress = (is_wanted || self.output.progress).then(|| Progress::start(screen, control.clone()));
        Ok(progress.transpose()?)
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
    fn rehearse(&self, selection: &Selection, screen: &Screen) -> Result<ExitCode, Refusal> {
        let hosts = selection.resolve_for_show(self.connect)?;
        let fanout = self.run.fanout.map_or(256, usize::from).min(hosts.len());
        if !self.output.quiet {
            let count = hosts.len();
            let noun = if count == 1 { "host" } else { "hosts" };
            screen.say(&format!("dry run: {count} {noun}, {fanout} at once, nothing is contacted"));
        }
        let row = |host: &Arc<Host>| {
            let Host { name, user, address, port, .. } = &**host;
            let what = &self.what;
            match self.output.format {
                Format::Text => format!("{name}: {}: {what}\n", plan::login(host)),
                Format::Json => json_line(&Planned { event: "planned", host: name, user, address, port: *port, what }),
            }
        };
        let text: String = hosts.iter().map(row).collect();
        // Whether somebody reads it is told by the code.
        let _ = screen.writer(Stream::Stdout).write_all(text.as_bytes());
        Ok(exit::of_listing(screen.is_closed()))
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
