use std::fs::{self, OpenOptions};
use std::path::Path;

use proptest::prelude::*;

use super::store::BLOCK_BYTES;
use super::*;
use crate::error::ErrorKind;

fn write(spools: &SpoolSet, bytes: &[u8]) -> Spool {
    let mut writer = spools.spool();
    for chunk in bytes.chunks(10_000) {
        writer.append(chunk).unwrap();
    }
    writer.finish()
}

/// Bytes that differ from place to place.
fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(len).collect()
}

#[test]
fn what_was_written_is_read_back_from_memory_and_file() {
    let spools = SpoolSet::with_memory_in(50_000, std::env::temp_dir());
    for len in [0, 1, 100, 49_000, 64 * 1024, 1_000_000] {
        let bytes = pattern(len as u64, len);
        let spool = write(&spools, &bytes);
        assert_eq!(spool.len(), len as u64);
        assert_eq!(spool.is_empty(), len == 0);
        assert_eq!(spool.bytes().unwrap(), bytes, "{len}");
        let mut copy = Vec::new();
        spool.reader().read_to_end(&mut copy).unwrap();
        assert_eq!(copy, bytes);
    }
}

#[test]
fn text_replaces_what_is_not_utf8() {
    let spools = SpoolSet::default();
    assert_eq!(write(&spools, b"caf\xe9\n").text().unwrap(), "caf\u{fffd}\n");
    assert_eq!(write(&spools, "café".as_bytes()).text().unwrap(), "café");
}

#[test]
fn the_budget_is_never_exceeded_and_comes_back() {
    let spools = SpoolSet::with_memory_in(10_000, std::env::temp_dir());
    let free = || spools.0.free_memory();
    let first = write(&spools, &pattern(1, 6_000));
    assert!(free() <= 4_000, "{}", free());
    let second = write(&spools, &pattern(2, 6_000));
    assert_eq!(second.bytes().unwrap(), pattern(2, 6_000));
    assert_eq!(spools.0.file_end(), BLOCK_BYTES);
    let clone = first.clone();
    drop(first);
    assert!(free() <= 4_000);
    drop(clone);
    assert_eq!(free(), 10_000);
    let mut unfinished = spools.spool();
    unfinished.append(&pattern(3, 9_000)).unwrap();
    assert!(free() <= 1_000);
    drop(unfinished);
    assert_eq!(free(), 10_000);
    assert_eq!(spools.0.contents_len(), 1);
    drop(second);
    assert_eq!(spools.0.contents_len(), 0);
}

#[test]
fn blocks_of_dropped_spools_are_used_again() {
    let spools = SpoolSet::with_memory_in(0, std::env::temp_dir());
    for seed in 0..50 {
        let bytes = pattern(seed, 150_000);
        assert_eq!(write(&spools, &bytes).bytes().unwrap(), bytes);
    }
    assert_eq!(spools.0.file_end(), 3 * BLOCK_BYTES);
}

#[test]
fn equal_outputs_share_one_copy() {
    for memory in [0, 60_000, 1_000_000] {
        let spools = SpoolSet::with_memory_in(memory, std::env::temp_dir());
        let bytes = pattern(1, 100_000);
        let first = write(&spools, &bytes);
        let (free, end) = (spools.0.free_memory(), spools.0.file_end());
        let mut same = Vec::new();
        for _ in 0..20 {
            let mut writer = spools.spool();
            bytes.chunks(33_333).for_each(|chunk| writer.append(chunk).unwrap());
            same.push(writer.finish());
        }
        assert!(same.iter().all(|spool| spool.same_as(&first).unwrap()));
        assert_eq!(spools.0.free_memory(), free);
        assert!(spools.0.file_end() <= end + 2 * BLOCK_BYTES);
        let mut other = bytes.clone();
        other[99_999] ^= 1;
        assert!(!write(&spools, &other).same_as(&first).unwrap());
        assert!(!write(&spools, &bytes[1..]).same_as(&first).unwrap());
        drop(first);
        assert_eq!(same[19].bytes().unwrap(), bytes);
    }
}

#[test]
fn many_threads_write_side_by_side() {
    let spools = SpoolSet::with_memory_in(100_000, std::env::temp_dir());
    std::thread::scope(|scope| {
        for seed in 0..16 {
            let spools = spools.clone();
            scope.spawn(move || {
                for round in 0..10 {
                    let bytes = pattern(seed / 2 * 100 + round, 40_000);
                    let spool = write(&spools, &bytes);
                    assert_eq!(spool.bytes().unwrap(), bytes);
                }
            });
        }
    });
    assert_eq!(spools.0.free_memory(), 100_000);
    assert_eq!(spools.0.contents_len(), 0);
}

#[test]
fn the_file_has_no_name_and_no_reader_but_us() {
    let dir = tempfile::tempdir().unwrap();
    let spools = SpoolSet::with_memory_in(0, dir.path());
    let _spool = write(&spools, b"secret");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    assert_eq!(spools.0.mode(), 0o600);
}

#[test]
fn a_failing_file_names_its_directory() {
    let spools = SpoolSet::with_memory_in(0, "/no/such/dir");
    let error = spools.spool().append(b"x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LocalFile);
    assert!(error.chain().starts_with("cannot write the spill file in /no/such/dir: No such file"), "{error:?}");
    if !Path::new("/dev/full").exists() {
        return;
    }
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let spools = SpoolSet(Arc::new(Store::with_file(full, "/var/tmp".into())));
    let mut writer = spools.spool();
    for _ in 0..2 {
        let error = writer.append(b"x").unwrap_err();
        assert!(error.chain().starts_with("cannot write the spill file in /var/tmp: No space left"), "{error:?}");
    }
    assert_eq!(writer.len(), 0);
    let unreadable = OpenOptions::new().write(true).open(tempfile::NamedTempFile::new().unwrap().path()).unwrap();
    let spools = SpoolSet(Arc::new(Store::with_file(unreadable, "/var/tmp".into())));
    let error = write(&spools, b"x").bytes().unwrap_err();
    assert!(error.chain().starts_with("cannot read the spill file in /var/tmp: "), "{error:?}");
}

#[test]
fn spools_go_between_threads() {
    fn check<T: Send + Sync + Clone>() {}
    check::<Spool>();
    check::<SpoolSet>();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_mix_of_writers_reads_back(memory in 0usize..300_000, appends in prop::collection::vec((0usize..4, 0usize..70_000), 0..40)) {
        let spools = SpoolSet::with_memory_in(memory, std::env::temp_dir());
        let mut writers: Vec<SpoolWriter> = (0..4).map(|_| spools.spool()).collect();
        let mut expected = vec![Vec::new(); 4];
        for (seed, (target, len)) in appends.into_iter().enumerate() {
            let bytes = pattern(seed as u64, len);
            writers[target].append(&bytes).unwrap();
            expected[target].extend(bytes);
        }
        for (writer, expected) in writers.into_iter().zip(expected) {
            prop_assert!(writer.finish().bytes().unwrap() == expected);
        }
        prop_assert_eq!(spools.0.free_memory(), memory);
    }
}
