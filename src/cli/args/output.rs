use std::path::PathBuf;

use clap::{Args, ValueEnum};
use fleet::Pattern;

use super::super::exit::Refusal;
use super::super::usage;
use super::values::{ProgressWhen, flag, progress};

/// What is shown.
#[derive(Args, Debug)]
#[command(next_help_heading = "Output")]
pub(crate) struct Output {
    /// Form: text, json (events), jsonl or csv (results) [default: text]
    #[arg(
        long,
        value_enum,
        value_name = "FORM",
        default_value_t,
        hide_default_value = true,
        hide_possible_values = true,
        env = "FLEET_FORMAT",
        hide_env = true
    )]
    pub(crate) format: Format,
    /// Colour: auto, always or never [default: auto]
    #[arg(
        long,
        value_enum,
        value_name = "WHEN",
        default_value_t,
        hide_default_value = true,
        hide_possible_values = true,
        env = "FLEET_COLOR",
        hide_env = true
    )]
    pub(crate) color: ColorWhen,
    /// Progress: auto, never, or always: without a terminal a line every 5s [default: auto]
    #[arg(long, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "always",
        value_parser = progress, env = "FLEET_PROGRESS", hide_env = true)]
    pub(crate) progress: Option<ProgressWhen>,
    /// Say nothing but errors
    #[arg(short, long, value_parser = flag(), conflicts_with = "verbose", env = "FLEET_QUIET", hide_env = true)]
    pub(crate) quiet: bool,
    /// Show retries and host keys too; -vv also each phase
    #[arg(short, long, action = clap::ArgAction::Count, env = "FLEET_VERBOSE", hide_env = true)]
    pub(crate) verbose: u8,
}

/// What is shown of a command's lines.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Output")]
pub(crate) struct Lines {
    /// Leave `HOST: ` out; a file or pipe gets the bytes exactly
    #[arg(short = 'N', long, value_parser = flag(), conflicts_with = "select_regex", env = "FLEET_NO_PREFIX", hide_env = true)]
    pub(crate) no_prefix: bool,
    /// Also write HOST.stdout, HOST.stderr and results.jsonl into a new or empty directory
    #[arg(short = 'O', long, value_name = "DIR", env = "FLEET_OUT_DIR", hide_env = true)]
    pub(crate) out_dir: Option<PathBuf>,
    /// Show hosts that wrote the same once, when the run ends; on a terminal also while it goes on
    #[arg(short = 'b', long, value_parser = flag(), conflicts_with_all = ["no_prefix", "select_regex"], env = "FLEET_FOLD", hide_env = true)]
    pub(crate) fold: bool,
    /// As -b, and of all but the largest group only what differs from it
    #[arg(long, value_parser = flag(), conflicts_with_all = ["no_prefix", "select_regex"], env = "FLEET_DIFF", hide_env = true)]
    pub(crate) diff: bool,
    /// Keep what a host writes together, in the order of the hosts
    #[arg(
        long,
        value_parser = flag(),
        conflicts_with_all = ["fold", "diff", "select_regex"],
        env = "FLEET_ORDERED",
        hide_env = true
    )]
    pub(crate) ordered: bool,
    /// Show what the named groups of RE find in stdout, as a table or in the form chosen
    #[arg(long, value_name = "RE", env = "FLEET_SELECT_REGEX", hide_env = true)]
    select_regex: Option<String>,
}

impl Lines {
    /// Reads the regular expression that makes records of outputs.
    pub(crate) fn pattern(&self) -> Result<Option<Pattern>, Refusal> {
        let Some(text) = &self.select_regex else { return Ok(None) };
        let pattern = Pattern::new(text)
            .map_err(|error| Refusal::from(error).hint("--select-regex wants named groups, such as '(?<use>\\d+)%'"))?;
        Ok(Some(pattern))
    }

    /// Tells whether hosts that wrote the same are shown once.
    pub(crate) fn is_folded(&self) -> bool {
        self.fold || self.diff
    }

    /// Tells whether what hosts write is kept before it is shown.
    pub(crate) fn is_kept(&self) -> bool {
        self.is_folded() || self.ordered
    }

    /// Refuses what only the text form has, where another form is asked for; a variable gives way to a flag.
    pub(crate) fn for_format(&self, format: Format) -> Result<Self, Refusal> {
        if format == Format::Text {
            return Ok(self.clone());
        }
        let flags = [
            ("-N", "no_prefix", self.no_prefix),
            ("-b", "fold", self.fold),
            ("--diff", "diff", self.diff),
            ("--ordered", "ordered", self.ordered),
        ];
        let is_typed = |id: &str| usage::is_flag(std::env::args_os(), id);
        match flags.into_iter().find(|(_, id, is_set)| *is_set && (is_typed(id) || !is_typed("format"))) {
            Some((flag, ..)) => {
                Err(Refusal::usage(format!("{flag} is for the text form, not for --format {}", format.name())))
            }
            None => Ok(Self::default()),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Text,
    Json,
    Jsonl,
    Csv,
}

impl Format {
    /// Tells whether it keeps what a host writes until the host is done.
    pub(crate) fn is_capturing(self) -> bool {
        matches!(self, Self::Jsonl | Self::Csv)
    }

    /// Returns the word that chooses it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorWhen {
    #[default]
    Auto,
    Always,
    Never,
}
