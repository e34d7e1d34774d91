//! What can go wrong on a host, by name.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A fault of a host. Each has a name in kebab-case for scenario files and the command line, with its argument after a
/// colon: `silent`, `cut-output:65536`, `slow-banner:500ms`, `exit-signal:KILL`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Accepts the connection and never sends a byte.
    Silent,
    /// Sends lines that are not SSH, then closes.
    GarbageBanner,
    /// Sends lines before the banner without end; with `newline: false`, one line without end.
    EndlessBanner {
        /// Whether the garbage is cut into lines.
        newline: bool,
    },
    /// Sends its banner, and with `kexinit` its key exchange proposal, then nothing.
    StallKex {
        /// Whether `SSH_MSG_KEXINIT` is sent.
        kexinit: bool,
    },
    /// Completes the key exchange and never answers a login.
    StallLogin,
    /// Never answers the opening of a channel.
    StallChannel,
    /// Refuses to open a channel.
    RefuseChannel,
    /// Refuses to run a command.
    RefuseExec,
    /// Sends a line and a half of output, then nothing; the command never ends. Of SFTP, the first read or write is answered
    /// and nothing after it.
    StallOutput,
    /// Closes the connection after about this many bytes of output, counted on the wire; of SFTP, bytes both ways together.
    CutOutput {
        /// Bytes on the wire from the start of the command or subsystem.
        after_bytes: u64,
    },
    /// As `CutOutput`, with a TCP reset.
    ResetOutput {
        /// Bytes on the wire from the start of the command or subsystem.
        after_bytes: u64,
    },
    /// As `CutOutput`, but the link goes dead instead: nothing is sent, read or closed any more.
    FreezeOutput {
        /// Bytes on the wire from the start of the command or subsystem.
        after_bytes: u64,
    },
    /// Closes the first connections before the banner, then works.
    CutBeforeLogin {
        /// How many connections are closed.
        times: u64,
    },
    /// Ends a command with end of file and close, without a status. The SFTP server ends so after its first read or write.
    NoExitStatus,
    /// Ends a command with this signal's name, whatever its status was. The SFTP server ends so after its first read or write.
    ExitSignal {
        /// The name without `SIG`.
        name: String,
    },
    /// Sends output for ever, as fast as the client's window allows. Of SFTP, files have no end (each read takes 4 ms), and the
    /// first write is followed by answers to nothing, without end.
    EndlessOutput,
    /// Takes requests for terminals, though it gives none, and hangs up on a command at the end of its input, as tinysshd does.
    HangUpAtEof,
    /// Waits before the banner.
    SlowBanner {
        /// How long.
        delay: Duration,
    },
    /// Has another host key than its `host_key_line` says.
    WrongHostKey,
    /// Has no SFTP.
    RefuseSubsystem,
    /// Answers this many SFTP requests after the first (`init`), then none.
    StallSftp {
        /// How many requests are answered.
        after_requests: u64,
    },
    /// SFTP writes fail with `SSH_FX_FAILURE` after this many bytes.
    DiskFull {
        /// How many bytes fit.
        after_bytes: u64,
    },
}

impl Fault {
    /// The names that [`FromStr`] accepts, with sample arguments.
    pub const NAMES: &'static [&'static str] = &[
        "silent",
        "garbage-banner",
        "endless-banner",
        "endless-line",
        "stall-kex",
        "stall-kexinit",
        "stall-login",
        "stall-channel",
        "refuse-channel",
        "refuse-exec",
        "stall-output",
        "cut-output:64KiB",
        "reset-output:64KiB",
        "freeze-output:64KiB",
        "cut-before-login:1",
        "no-exit-status",
        "exit-signal:KILL",
        "endless-output",
        "hang-up-at-eof",
        "slow-banner:1s",
        "wrong-host-key",
        "refuse-subsystem",
        "stall-sftp:3",
        "disk-full:64KiB",
    ];
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, argument) = match text.split_once(':') {
            Some((name, argument)) => (name, Some(argument)),
            None => (text, None),
        };
        let bytes = || parse_size(argument.unwrap_or("64KiB"));
        let count = |default: u64| match argument {
            None => Ok(default),
            Some(digits) => digits.parse().map_err(|_| format!("not a number: {digits}")),
        };
        Ok(match name {
            "silent" => Self::Silent,
            "garbage-banner" => Self::GarbageBanner,
            "endless-banner" => Self::EndlessBanner { newline: true },
            "endless-line" => Self::EndlessBanner { newline: false },
            "stall-kex" => Self::StallKex { kexinit: false },
            "stall-kexinit" => Self::StallKex { kexinit: true },
            "stall-login" => Self::StallLogin,
            "stall-channel" => Self::StallChannel,
            "refuse-channel" => Self::RefuseChannel,
            "refuse-exec" => Self::RefuseExec,
            "stall-output" => Self::StallOutput,
            "cut-output" => Self::CutOutput { after_bytes: bytes()? },
            "reset-output" => Self::ResetOutput { after_bytes: bytes()? },
            "freeze-output" => Self::FreezeOutput { after_bytes: bytes()? },
            "cut-before-login" => Self::CutBeforeLogin { times: count(1)? },
            "no-exit-status" => Self::NoExitStatus,
            "exit-signal" => Self::ExitSignal { name: argument.unwrap_or("KILL").to_owned() },
            "endless-output" => Self::EndlessOutput,
            "hang-up-at-eof" => Self::HangUpAtEof,
            "slow-banner" => Self::SlowBanner { delay: parse_duration(argument.unwrap_or("1s"))? },
            "wrong-host-key" => Self::WrongHostKey,
            "refuse-subsystem" => Self::RefuseSubsystem,
            "stall-sftp" => Self::StallSftp { after_requests: count(3)? },
            "disk-full" => Self::DiskFull { after_bytes: bytes()? },
            _ => {
                return Err(format!("unknown fault {name}; known: {}", Self::NAMES.join(", ")));
            }
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("silent"),
            Self::GarbageBanner => f.write_str("garbage-banner"),
            Self::EndlessBanner { newline: true } => f.write_str("endless-banner"),
            Self::EndlessBanner { newline: false } => f.write_str("endless-line"),
            Self::StallKex { kexinit: false } => f.write_str("stall-kex"),
            Self::StallKex { kexinit: true } => f.write_str("stall-kexinit"),
            Self::StallLogin => f.write_str("stall-login"),
            Self::StallChannel => f.write_str("stall-channel"),
            Self::RefuseChannel => f.write_str("refuse-channel"),
            Self::RefuseExec => f.write_str("refuse-exec"),
            Self::StallOutput => f.write_str("stall-output"),
            Self::CutOutput { after_bytes } => write!(f, "cut-output:{after_bytes}"),
            Self::ResetOutput { after_bytes } => write!(f, "reset-output:{after_bytes}"),
            Self::FreezeOutput { after_bytes } => write!(f, "freeze-output:{after_bytes}"),
            Self::CutBeforeLogin { times } => write!(f, "cut-before-login:{times}"),
            Self::NoExitStatus => f.write_str("no-exit-status"),
            Self::ExitSignal { name } => write!(f, "exit-signal:{name}"),
            Self::EndlessOutput => f.write_str("endless-output"),
            Self::HangUpAtEof => f.write_str("hang-up-at-eof"),
            Self::SlowBanner { delay } => write!(f, "slow-banner:{}ms", delay.as_millis()),
            Self::WrongHostKey => f.write_str("wrong-host-key"),
            Self::RefuseSubsystem => f.write_str("refuse-subsystem"),
            Self::StallSftp { after_requests } => write!(f, "stall-sftp:{after_requests}"),
            Self::DiskFull { after_bytes } => write!(f, "disk-full:{after_bytes}"),
        }
    }
}

/// Reads `500ms`, `10s`, `5m`, or a bare number of seconds.
///
/// # Errors
/// A message when the text is none of these.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("not a duration: {text}");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| bad())?;
    match text.strip_prefix(digits) {
        Some("ms") => Ok(Duration::from_millis(number)),
        Some("" | "s") => Ok(Duration::from_secs(number)),
        Some("m") => Ok(Duration::from_secs(number * 60)),
        _ => Err(bad()),
    }
}

/// Reads `64KiB`, `5MiB`, `1GiB`, or a bare number of bytes.
///
/// # Errors
/// A message when the text is none of these.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let bad = || format!("not a size: {text}");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| bad())?;
    let unit = match text.strip_prefix(digits) {
        Some("" | "B") => 1,
        Some("KiB") => 1 << 10,
        Some("MiB") => 1 << 20,
        Some("GiB") => 1 << 30,
        _ => return Err(bad()),
    };
    Ok(number.saturating_mul(unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_and_printed_alike() {
        for name in Fault::NAMES {
            let fault: Fault = name.parse().unwrap();
            let again: Fault = fault.to_string().parse().unwrap();
            assert_eq!(fault, again, "{name}");
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = "nonsense".parse::<Fault>().unwrap_err();
        assert!(error.contains("silent, garbage-banner"), "{error}");
    }

    #[test]
    fn durations_and_sizes_have_units() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("3"), Ok(Duration::from_secs(3)));
        assert_eq!(parse_size("64KiB"), Ok(65536));
        assert!(parse_size("64kb").is_err());
    }
}
