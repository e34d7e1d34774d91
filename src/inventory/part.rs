//! A part of what is selected: by place, or at random.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use super::select::Target;

/// A part of a list by place, as Python cuts it: `2:5`, `:10`, `-3:`, `::2`; a single number is one place.
///
/// # Examples
///
/// ```
/// let slice: fleet::inventory::Slice = "-3:".parse()?;
/// assert_eq!(slice.to_string(), "-3:");
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    start: Option<i64>,
    /// Where it ends; none inside for a single place.
    end: Option<Option<i64>>,
    step: Option<NonZeroUsize>,
}

impl FromStr for Slice {
    type Err = String;

    /// Reads `START:END`, `START:END:STEP` or a place; what is left out is the whole.
    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = "expected START:END as Python has it, such as 0:10, :10, -5: or ::2";
        let place = |text: &str| match text.trim() {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| wanted.to_owned()),
        };
        let mut parts = text.split(':');
        let (start, end, step, more) = (parts.next(), parts.next(), parts.next(), parts.next());
        let start = place(start.unwrap_or_default())?;
        if more.is_some() || start.is_none() && end.is_none() {
            return Err(wanted.to_owned());
        }
        let step = match step.map(str::trim).filter(|step| !step.is_empty()) {
            None => None,
            Some(step) => Some(step.parse().map_err(|_| format!("{wanted}; a step is 1 or more"))?),
        };
        Ok(Self { start, end: end.map(place).transpose()?, step })
    }
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |place: Option<i64>| place.map_or_else(String::new, |place| place.to_string());
        f.write_str(&place(self.start))?;
        if let Some(end) = self.end {
            write!(f, ":{}", place(end))?;
        }
        self.step.map_or(Ok(()), |step| write!(f, ":{step}"))
    }
}

impl Slice {
    pub(super) fn cut<T>(&self, items: &mut Vec<T>) {
        let len = i64::try_from(items.len()).unwrap_or(i64::MAX);
        let from_start = |place: i64| if place < 0 { len.saturating_add(place) } else { place };
        let start = from_start(self.start.unwrap_or(0));
        let (start, end) = match self.end {
            // A single place that is not there is nothing, however near.
            None => (start, if start < 0 { start } else { start.saturating_add(1) }),
            Some(end) => (start.max(0), from_start(end.unwrap_or(len))),
        };
        let step = self.step.map_or(1, NonZeroUsize::get);
        let mut place = 0_i64;
        let mut until_next = 0;
        items.retain(|_| {
            let is_inside = (start..end).contains(&place);
            place += 1;
            if !is_inside {
                return false;
            }
            let is_kept = until_next == 0;
            until_next = if is_kept { step - 1 } else { until_next - 1 };
            is_kept
        });
    }
}

/// Some hosts at random, the same ones for the same seed.
///
/// Each host has its lot by its name and the seed: hosts that come or go change nothing about the others' lots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pick {
    /// How many; all if there are fewer.
    pub count: NonZeroUsize,
    /// What decides about chance.
    pub seed: u64,
}

impl Pick {
    /// Makes a choice of so many hosts.
    pub fn new(count: NonZeroUsize, seed: u64) -> Self {
        Self { count, seed }
    }

    /// Keeps the targets with the lowest lots, in their order.
    pub(super) fn draw(&self, targets: &mut Vec<Target>) {
        if targets.len() <= self.count.get() {
            return;
        }
        let mut lots: Vec<(u64, usize)> =
            targets.iter().enumerate().map(|(place, target)| (self.lot(&target.name), place)).collect();
        lots.select_nth_unstable(self.count.get() - 1);
        lots.truncate(self.count.get());
        let mut kept: Vec<usize> = lots.into_iter().map(|(_, place)| place).collect();
        kept.sort_unstable();
        let mut kept = kept.into_iter().peekable();
        let mut place = 0;
        targets.retain(|_| {
            place += 1;
            kept.next_if_eq(&(place - 1)).is_some()
        });
    }

    /// Draws a name's lot: FNV-1a over the name, then the finalizer of SplitMix64. Plain arithmetic, so that a seed means
    /// the same in every version.
    fn lot(&self, name: &str) -> u64 {
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let mut lot = hash ^ self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        lot = (lot ^ (lot >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        lot = (lot ^ (lot >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        lot ^ (lot >> 31)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_slice_is_pythons() {
        for (text, wanted) in [
            ("0:3", "0 1 2"),
            (":3", "0 1 2"),
            ("7:", "7 8 9"),
            (":", "0 1 2 3 4 5 6 7 8 9"),
            ("-3:", "7 8 9"),
            (":-7", "0 1 2"),
            ("-3:-1", "7 8"),
            ("2:100", "2 3 4 5 6 7 8 9"),
            ("-100:2", "0 1"),
            ("5:2", ""),
            ("100:", ""),
            ("::4", "0 4 8"),
            ("1:9:3", "1 4 7"),
            ("-1::1", "9"),
            ("3", "3"),
            ("-1", "9"),
            ("-10", "0"),
            ("-11", ""),
            ("10", ""),
            ("-9223372036854775808:9223372036854775807", "0 1 2 3 4 5 6 7 8 9"),
        ] {
            let slice: Slice = text.parse().unwrap();
            let mut items: Vec<i32> = (0..10).collect();
            slice.cut(&mut items);
            let kept: Vec<String> = items.iter().map(ToString::to_string).collect();
            assert_eq!(kept.join(" "), wanted, "{text}");
            assert_eq!(slice.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_slice_is_refused() {
        for text in ["", "a", "1:b", "1:2:0", "1:2:-1", "1:2:3:4", "1-3", "1,2", "99999999999999999999:"] {
            assert!(text.parse::<Slice>().is_err(), "{text}");
        }
    }

    fn picked(names: std::ops::Range<u32>, count: usize, seed: u64) -> Vec<String> {
        let mut targets: Vec<Target> = names.map(|number| Target::named(format!("n{number}"))).collect();
        Pick::new(NonZeroUsize::new(count).unwrap(), seed).draw(&mut targets);
        targets.iter().map(|target| target.name.to_string()).collect()
    }

    #[test]
    fn a_seed_picks_the_same_hosts_again() {
        assert_eq!(picked(0..100, 5, 7), picked(0..100, 5, 7));
        assert_ne!(picked(0..100, 5, 7), picked(0..100, 5, 8));
        assert_eq!(picked(0..3, 5, 7), ["n0", "n1", "n2"]);
        // Fixed, because people write seeds down.
        assert_eq!(picked(0..10, 3, 1).join(" "), "n0 n2 n4");
        let fewer: BTreeSet<String> = picked(1..100, 5, 7).into_iter().collect();
        let changed = picked(0..100, 5, 7).iter().filter(|name| !fewer.contains(*name)).count();
        assert!(changed <= 1, "one host less changes one pick at most");
    }

    #[test]
    fn every_host_is_picked_about_as_often() {
        let mut counts = [0; 10];
        for seed in 0..1_000 {
            for name in picked(0..10, 3, seed) {
                let number: usize = name.trim_start_matches('n').parse().unwrap();
                counts[number] += 1;
            }
        }
        assert!(counts.iter().all(|count| (240..360).contains(count)), "{counts:?}");
    }
}
