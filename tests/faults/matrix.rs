//! The matrix: what must be said of a host that does this while that is done with it.
//!
//! | fault | to a command | to a transfer |
//! |---|---|---|
//! | stall in channel open | no answer to the request | the same |
//! | stall in output | a line and a half, then nothing | the first read or write is answered, then nothing |
//! | cut mid-output | the connection closes | the same |
//! | no exit status | end of file and close, no status | the SFTP server ends so after its first read or write |
//! | exit by signal | the command is killed | the SFTP server is killed after its first read or write |
//! | endless output | `yes` | get: a file without an end; put: answers that nobody asked for, without end |
//! | refused channel | the session channel is refused | the same |
//! | frozen, cut off | in the middle of a command | in the middle of a file |
//!
//! Three decisions that DESIGN section 7 leaves to this table:
//!
//! - A stall in channel open is `timed_out`, not `lost`: the login succeeded and the connection has not ended, it is a time limit
//!   that did. It is `--connect-timeout` that limits this step, as it does all before it.
//! - An SFTP server that ends is `failed`, not `lost`, as a command that ends without a status or by a signal is: host and
//!   connection are well.
//! - Answers that nobody asked for make a host `lost`, not `timed_out`: fleet ends such a connection before the flood fills this
//!   machine's memory, and nothing is known of the transfer then.

use fleet::event::HostReport;
use fleet::{Class, ErrorKind, Phase};

/// Declares an enum together with the list of its values, so that none is left out.
macro_rules! listed {
    ($(#[$meta:meta])* $name:ident { $($value:ident),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($value),* }

        impl $name {
            pub(crate) const ALL: &[Self] = &[$(Self::$value),*];
        }
    };
}

listed! {
    /// What is done with a host.
    Doing { Exec, Put, Get }
}

listed! {
    /// What is wrong with a host.
    Fault {
        Silent,
        GarbageBanner,
        EndlessBanner,
        StallKeyExchange,
        StallLogin,
        StallChannel,
        StallOutput,
        CutOutput,
        NoExitStatus,
        ExitSignal,
        EndlessOutput,
        RefusedChannel,
        Frozen,
        CutOff,
    }
}

/// Where a fault is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Simulator,
    Docker,
}

/// What must be said of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    class: Class,
    /// The error's kind; none for a command that began, whatever became of it.
    kind: Option<ErrorKind>,
    phase: Option<Phase>,
}

impl Fault {
    pub(crate) fn place(self) -> Place {
        match self {
            Self::Silent
            | Self::GarbageBanner
            | Self::EndlessBanner
            | Self::StallKeyExchange
            | Self::StallLogin
            | Self::StallChannel
            | Self::StallOutput
            | Self::CutOutput
            | Self::NoExitStatus
            | Self::ExitSignal
            | Self::EndlessOutput
            | Self::RefusedChannel => Place::Simulator,
            Self::Frozen | Self::CutOff => Place::Docker,
        }
    }

    pub(crate) fn all_of(place: Place) -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(move |fault| fault.place() == place)
    }

    /// One cell for each pair: a missing one does not compile.
    pub(crate) fn verdict(self, doing: Doing) -> Verdict {
        use Doing::{Exec, Get, Put};
        let error = |class, kind, phase| Verdict { class, kind: Some(kind), phase: Some(phase) };
        let on_the_way = |kind, phase| error(Class::Unreachable, kind, phase);
        let result = |class, phase| Verdict { class, kind: None, phase };
        match (self, doing) {
            (Self::Silent, Exec | Put | Get) => on_the_way(ErrorKind::Timeout, Phase::Banner),
            (Self::GarbageBanner, Exec | Put | Get) => on_the_way(ErrorKind::Protocol, Phase::Banner),
            (Self::EndlessBanner, Exec | Put | Get) => on_the_way(ErrorKind::Protocol, Phase::Banner),
            (Self::StallKeyExchange, Exec | Put | Get) => on_the_way(ErrorKind::Timeout, Phase::KeyExchange),
            (Self::StallLogin, Exec | Put | Get) => on_the_way(ErrorKind::Timeout, Phase::Login),
            (Self::StallChannel, Exec | Put | Get) => error(Class::TimedOut, ErrorKind::Timeout, Phase::Channel),
            (Self::StallOutput, Exec) => result(Class::TimedOut, Some(Phase::Running)),
            (Self::StallOutput, Put | Get) => error(Class::TimedOut, ErrorKind::Timeout, Phase::Transfer),
            (Self::CutOutput, Exec) => error(Class::Lost, ErrorKind::Disconnected, Phase::Running),
            (Self::CutOutput, Put | Get) => error(Class::Lost, ErrorKind::Disconnected, Phase::Transfer),
            (Self::NoExitStatus | Self::ExitSignal, Exec) => result(Class::Failed, None),
            (Self::NoExitStatus | Self::ExitSignal, Put | Get) => {
                error(Class::Failed, ErrorKind::RemoteFile, Phase::Transfer)
            }
            (Self::EndlessOutput, Exec) => result(Class::TimedOut, Some(Phase::Running)),
            (Self::EndlessOutput, Put) => error(Class::Lost, ErrorKind::Protocol, Phase::Transfer),
            (Self::EndlessOutput, Get) => error(Class::TimedOut, ErrorKind::Timeout, Phase::Transfer),
            (Self::RefusedChannel, Exec | Put | Get) => error(Class::Failed, ErrorKind::Refused, Phase::Channel),
            (Self::Frozen | Self::CutOff, Exec) => result(Class::TimedOut, Some(Phase::Running)),
            (Self::Frozen | Self::CutOff, Put | Get) => error(Class::TimedOut, ErrorKind::Timeout, Phase::Transfer),
        }
    }

    /// Compares what was said with what must be, and shows it (`cargo test --test faults -- --nocapture`).
    pub(crate) fn check(self, doing: Doing, report: &HostReport) {
        let error = report.error.as_ref();
        let seen = Verdict { class: report.class(), kind: error.map(fleet::Error::kind), phase: report.phase() };
        let said = report.reason().unwrap_or_default();
        eprintln!("{doing:?} {self:?}: {} after {:.1?}: {said}", report.class(), report.duration);
        assert_eq!(seen, self.verdict(doing), "{doing:?} {self:?}: {report:?}");
    }
}
