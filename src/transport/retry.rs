//! When a connection is tried again, and after how long (DESIGN section 7, `--retries`).

use std::time::Duration;

use crate::error::{Error, ErrorKind, Phase};

/// How long to wait before the first repetition, unless somebody says otherwise.
pub(crate) const RETRY_DELAY: Duration = Duration::from_millis(200);

/// Tells whether a server under load may have dropped the connection: a reset or an end before the login, or a line that
/// is not SSH's ("Exceeded MaxStartups").
pub(crate) fn is_drop_before_login(error: &Error) -> bool {
    match (error.kind(), error.phase()) {
        (ErrorKind::Disconnected, Some(phase)) => phase.is_before_session(),
        (ErrorKind::Protocol, phase) => phase == Some(Phase::Banner),
        _ => false,
    }
}

/// What a delay is cut to before it is doubled: far beyond any use, and well within a `Duration`.
const LONGEST_DELAY: Duration = Duration::from_secs(1 << 32);

/// Doubles the delay with each failed attempt and spreads it by half either way, so that a herd does not return as one.
pub(crate) fn spread(delay: Duration, doublings: u32) -> Duration {
    let delay = delay.min(LONGEST_DELAY).saturating_mul(1 << doublings.min(6));
    delay.mul_f64(0.5 + fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_drops_before_the_login_are_worth_another_attempt() {
        let is_drop = |kind, phase| is_drop_before_login(&Error::new(kind, "x").in_phase(phase));
        assert!(is_drop(ErrorKind::Disconnected, Phase::Banner));
        assert!(is_drop(ErrorKind::Disconnected, Phase::Login));
        assert!(is_drop(ErrorKind::Protocol, Phase::Banner));
        assert!(!is_drop(ErrorKind::Protocol, Phase::KeyExchange));
        assert!(!is_drop(ErrorKind::Disconnected, Phase::Running));
        assert!(!is_drop(ErrorKind::Connect, Phase::Connect));
        assert!(!is_drop(ErrorKind::Timeout, Phase::Banner));
        assert!(!is_drop(ErrorKind::Login, Phase::Login));
        assert!(!is_drop(ErrorKind::HostKey, Phase::HostKey));
    }

    #[test]
    fn delays_double_within_their_spread() {
        for doublings in 0..4 {
            let delay = spread(Duration::from_millis(200), doublings);
            assert!(delay >= Duration::from_millis(100 << doublings));
            assert!(delay < Duration::from_millis(300 << doublings));
        }
    }
}
