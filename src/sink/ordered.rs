//! What each host wrote in one piece, in the order of the hosts.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use crate::error::Error;
use crate::event::{Event, EventKind, HostReport, RunId, Sink, Stream};
use crate::host::Host;
use crate::spool::{Spool, SpoolReader, SpoolSet, SpoolWriter};

/// Hands the outputs of a run on to another sink, host by host in the order of their submission: the first that is not done
/// as it writes, the others when it is their turn.
///
/// What waits is kept within the memory of a [`SpoolSet`]. The two streams of a host keep the order in which they came.
/// Events that are no output and no end of a host pass at once.
///
/// # Examples
///
/// ```
/// use fleet::fake::{FakeTransport, Reply};
/// use fleet::pool::RunControl;
/// use fleet::sink::{Ordered, Text, TextOptions};
/// use fleet::spool::SpoolSet;
/// use fleet::{Exec, Host, Pool};
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// let fake = FakeTransport::new();
/// fake.host("a").otherwise(Reply::new().stdout("1\n").pause(Duration::from_millis(20)).stdout("2\n"));
/// fake.host("b").otherwise(Reply::new().stdout("3\n"));
/// let hosts = ["a", "b"].map(|name| Arc::new(Host::new(name, name)));
/// let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
/// let text = Text::new(&mut stdout, &mut stderr, TextOptions::default());
/// let mut ordered = Ordered::new(text, &hosts, SpoolSet::default());
/// Pool::builder(fake).build().run(&hosts, Exec::new("x"), &RunControl::new(), &mut [&mut ordered]);
/// drop(ordered);
/// assert_eq!(stdout, b"a: 1\na: 2\nb: 3\n");
/// ```
pub struct Ordered<S> {
    inner: S,
    spools: SpoolSet,
    /// The places of the hosts, by their addresses: two may have one name.
    places: HashMap<usize, usize>,
    hosts: Vec<Arc<Host>>,
    waiting: HashMap<usize, Waiting>,
    /// Whose turn it is.
    turn: usize,
}

/// A host whose turn has not come.
#[derive(Default)]
struct Waiting {
    pieces: Option<SpoolWriter>,
    end: Option<Arc<HostReport>>,
}

impl<S: Sink> Ordered<S> {
    /// Hands on to `inner`, in the order of `hosts`, which are those of the run.
    pub fn new(inner: S, hosts: &[Arc<Host>], spools: SpoolSet) -> Self {
        let places = hosts.iter().enumerate().map(|(place, host)| (Arc::as_ptr(host).addr(), place)).collect();
        Self { inner, spools, places, hosts: hosts.to_vec(), waiting: HashMap::new(), turn: 0 }
    }

    /// Returns the place of a host whose turn has not come.
    fn waits(&self, host: &Arc<Host>) -> Option<usize> {
        self.places.get(&Arc::as_ptr(host).addr()).copied().filter(|place| *place > self.turn)
    }

    fn keep(&mut self, place: usize, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let spools = &self.spools;
        let pieces = self.waiting.entry(place).or_default().pieces.get_or_insert_with(|| spools.spool());
        let header = Header { stream, len: bytes.len() }.to_bytes();
        pieces.append(&header).and_then(|()| pieces.append(bytes)).map_err(|error| into_io(&error))
    }

    /// Gives the turn to the next host, and on from those that are done already.
    fn advance(&mut self, event: &Event) -> io::Result<()> {
        loop {
            self.turn += 1;
            let Some(Waiting { pieces, end }) = self.waiting.remove(&self.turn) else { return Ok(()) };
            if let (Some(pieces), Some(host)) = (pieces, self.hosts.get(self.turn)) {
                let host = Arc::clone(host);
                self.replay(&host, &pieces.finish(), event)?;
            }
            let Some(end) = end else { return Ok(()) };
            self.inner.handle(&at(event, EventKind::Finished(end)))?;
        }
    }

    fn replay(&mut self, host: &Arc<Host>, pieces: &Spool, event: &Event) -> io::Result<()> {
        let mut reader = pieces.reader();
        while let Some(Header { stream, len }) = Header::read(&mut reader)? {
            let mut bytes = vec![0; len];
            reader.read_exact(&mut bytes)?;
            self.inner.handle(&at(event, EventKind::Output { host: Arc::clone(host), stream, bytes }))?;
        }
        Ok(())
    }
}

/// Makes an event of the time and run of another.
fn at(event: &Event, kind: EventKind) -> Event {
    Event { time: event.time, run: RunId::clone(&event.run), kind }
}

fn into_io(error: &Error) -> io::Error {
    io::Error::other(error.chain())
}

/// Stands before each piece of a host's spool.
struct Header {
    stream: Stream,
    len: usize,
}

impl Header {
    const BYTES: usize = 5;

    fn to_bytes(&self) -> [u8; Self::BYTES] {
        let [a, b, c, d] = u32::try_from(self.len).unwrap_or(u32::MAX).to_le_bytes();
        [u8::from(self.stream == Stream::Stderr), a, b, c, d]
    }

    /// Reads the next; `None` at the end.
    fn read(reader: &mut SpoolReader) -> io::Result<Option<Self>> {
        let mut bytes = [0; Self::BYTES];
        let (first, rest) = bytes.split_at_mut(1);
        if reader.read(first)? == 0 {
            return Ok(None);
        }
        reader.read_exact(rest)?;
        let [stream, a, b, c, d] = bytes;
        let stream = if stream == 0 { Stream::Stdout } else { Stream::Stderr };
        Ok(Some(Self { stream, len: u32::from_le_bytes([a, b, c, d]) as usize }))
    }
}

impl<S: Sink> Sink for Ordered<S> {
    fn handle(&mut self, event: &Event) -> io::Result<()> {
        match &event.kind {
            EventKind::Output { host, stream, bytes } => match self.waits(host) {
                Some(place) => self.keep(place, *stream, bytes),
                None => self.inner.handle(event),
            },
            EventKind::Finished(report) => match self.waits(&report.host) {
                Some(place) => {
                    self.waiting.entry(place).or_default().end = Some(Arc::clone(report));
                    Ok(())
                }
                None => {
                    self.inner.handle(event)?;
                    self.advance(event)
                }
            },
            _ => self.inner.handle(event),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<S> fmt::Debug for Ordered<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ordered").field("turn", &self.turn).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::{Class, Facts};
    use crate::sink::fixtures::{event, finished_with, host, run_finished};

    fn output(host: &Arc<Host>, stream: Stream, bytes: &[u8]) -> Event {
        event(EventKind::Output { host: Arc::clone(host), stream, bytes: bytes.to_vec() })
    }

    fn finished(host: &Arc<Host>) -> Event {
        let Event { kind: EventKind::Finished(report), .. } = finished_with("", Facts::new(Class::Ok), None) else {
            unreachable!("it makes no other")
        };
        let mut report = (*report).clone();
        report.host = Arc::clone(host);
        event(EventKind::Finished(Arc::new(report)))
    }

    /// What came through, in short.
    fn passed(hosts: &[Arc<Host>], events: &[Event]) -> Vec<String> {
        let mut seen = Vec::new();
        let inner = |event: &Event| {
            seen.push(match &event.kind {
                EventKind::Output { host, stream, bytes } => {
                    format!("{} {} {}", host.name, stream.as_str(), String::from_utf8_lossy(bytes))
                }
                EventKind::Finished(report) => format!("{} done", report.host.name),
                _ => "end".to_owned(),
            });
            Ok(())
        };
        let mut ordered = Ordered::new(inner, hosts, SpoolSet::with_memory(64));
        for event in events {
            ordered.handle(event).unwrap();
        }
        assert!(ordered.waiting.is_empty());
        seen
    }

    #[test]
    fn the_first_host_is_live_and_the_others_wait_for_their_turn() {
        let hosts = ["a", "b", "c"].map(host);
        let [a, b, c] = &hosts;
        let events = [
            output(c, Stream::Stdout, b"1"),
            output(b, Stream::Stderr, b"2"),
            output(a, Stream::Stdout, b"3"),
            output(b, Stream::Stdout, b"4"),
            finished(c),
            finished(a),
            output(b, Stream::Stdout, b"5"),
            finished(b),
            run_finished(&[]),
        ];
        let seen = passed(&hosts, &events);
        let expected =
            ["a stdout 3", "a done", "b stderr 2", "b stdout 4", "b stdout 5", "b done", "c stdout 1", "c done", "end"];
        assert_eq!(seen, expected);
        let live = passed(&hosts[..1], &events[2..3]);
        assert_eq!(live, ["a stdout 3"]);
    }

    proptest! {
        #[test]
        fn every_host_has_its_own_in_order(counts in prop::collection::vec(0_usize..5, 1..8), seed in any::<u64>()) {
            let hosts: Vec<_> = (0..counts.len()).map(|n| host(&format!("n{n}"))).collect();
            let mut random = fastrand::Rng::with_seed(seed);
            let mut left: Vec<(usize, usize)> = counts.iter().copied().enumerate().collect();
            let mut events = Vec::new();
            while !left.is_empty() {
                let at = random.usize(..left.len());
                let (place, count) = left[at];
                if count == 0 {
                    events.push(finished(&hosts[place]));
                    left.swap_remove(at);
                } else {
                    let stream = if count % 2 == 0 { Stream::Stdout } else { Stream::Stderr };
                    events.push(output(&hosts[place], stream, count.to_string().as_bytes()));
                    left[at].1 -= 1;
                }
            }
            let mut expected = Vec::new();
            for (place, count) in counts.iter().enumerate() {
                for n in (1..=*count).rev() {
                    expected.push(format!("n{place} {} {n}", if n % 2 == 0 { "stdout" } else { "stderr" }));
                }
                expected.push(format!("n{place} done"));
            }
            prop_assert_eq!(passed(&hosts, &events), expected);
        }
    }
}
