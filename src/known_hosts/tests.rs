use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::error::ErrorKind;

/// Makes a well-formed key blob that differs by `seed`; nobody has its private half.
fn blob(key_type: &str, seed: u64) -> Vec<u8> {
    let string = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    [string(key_type.as_bytes()), string(&[&seed.to_be_bytes()[..]; 4].concat())].concat()
}

fn field(key_type: &str, seed: u64) -> String {
    format!("{key_type} {}", STANDARD.encode(blob(key_type, seed)))
}

const ED: &str = "ssh-ed25519";
const RSA: &str = "ssh-rsa";
const EC: &str = "ecdsa-sha2-nistp256";

struct Ground {
    dir: TempDir,
}

impl Ground {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("known_hosts")
    }

    fn with(&self, text: impl AsRef<[u8]>) -> KnownHosts {
        fs::write(self.path(), text).unwrap();
        KnownHosts::load(&[self.path()]).unwrap()
    }

    fn place(&self, line: u64) -> Place {
        Place { file: self.path(), line }
    }
}

fn known(ground: &Ground, line: u64, key_type: &str, seed: u64) -> KnownKey {
    KnownKey {
        place: ground.place(line),
        key_type: key_type.to_owned(),
        fingerprint: fingerprint(&blob(key_type, seed)),
    }
}

#[test]
fn a_key_is_judged_as_openssh_does() {
    let ground = Ground::new();
    let (a, b, r) = (field(ED, 1), field(ED, 2), field(RSA, 3));
    let hosts = ground.with(format!(
        "# comment\n\nWeb01,10.0.0.1 {a} someone@somewhere with spaces\n[web01]:2222 {b}\r\n\tdb* {r}\n\
         *.example.com,!bad.example.com {a}\n@revoked * {}\n@cert-authority * {}\ntwo {a}\ntwo {b}\n",
        field(ED, 9),
        field(ED, 8),
    ));
    assert_eq!(hosts.warnings(), []);
    let verdict = |name: &str, key_type: &str, seed: u64| hosts.verdict(name, &blob(key_type, seed));
    assert_eq!(verdict("web01", ED, 1), Verdict::Match);
    assert_eq!(verdict("WEB01", ED, 1), Verdict::Match);
    assert_eq!(verdict("10.0.0.1", ED, 1), Verdict::Match);
    assert_eq!(verdict("web01", ED, 2), Verdict::Changed(known(&ground, 3, ED, 1)));
    assert_eq!(verdict("web01", RSA, 1), Verdict::OtherTypeKnown(known(&ground, 3, ED, 1)));
    assert_eq!(verdict("[web01]:2222", ED, 2), Verdict::Match);
    assert_eq!(verdict("[web01]:2223", ED, 2), Verdict::Unknown);
    assert_eq!(verdict("db7", RSA, 3), Verdict::Match);
    assert_eq!(verdict("a.example.com", ED, 1), Verdict::Match);
    assert_eq!(verdict("bad.example.com", ED, 1), Verdict::Unknown);
    assert_eq!(verdict("web01", ED, 9), Verdict::Revoked(ground.place(7)));
    assert_eq!(verdict("nobody", ED, 9), Verdict::Revoked(ground.place(7)));
    assert_eq!(hosts.revoked("nobody", &blob(ED, 9)), Some(ground.place(7)));
    assert_eq!(hosts.revoked("nobody", &blob(ED, 1)), None);
    assert_eq!(verdict("nobody", ED, 8), Verdict::Unknown);
    assert_eq!(verdict("two", ED, 2), Verdict::Match);
    assert_eq!(verdict("two", ED, 3), Verdict::Changed(known(&ground, 9, ED, 1)));
}

#[test]
fn key_types_are_in_the_order_of_the_files() {
    let ground = Ground::new();
    let system = ground.dir.path().join("system");
    fs::write(&system, format!("a {}\na {}\n", field(ED, 1), field("ecdsa-sha2-nistp521", 1))).unwrap();
    ground.with(format!("a {}\na {}\na {}\n@revoked a {}\n", field(RSA, 1), field(ED, 2), field(RSA, 3), field(EC, 1)));
    let hosts = KnownHosts::load(&[ground.path(), system]).unwrap();
    assert_eq!(hosts.key_types("a"), [RSA, ED, "ecdsa-sha2-nistp521"]);
    assert_eq!(hosts.key_types("b"), [""; 0]);
    // A match in one file outweighs a mismatch in another; a revocation outweighs both.
    assert_eq!(hosts.verdict("a", &blob(ED, 1)), Verdict::Match);
    assert_eq!(hosts.verdict("a", &blob(EC, 1)), Verdict::Revoked(ground.place(4)));
}

#[test]
fn bad_lines_are_skipped_and_named() {
    let ground = Ground::new();
    let good = field(ED, 1);
    let mut text = format!(
        "x\nx {ED}\nx {ED} !!!\nx {ED} AAAA\n@unknown x {good}\n@revoked @revoked x {good}\n|1|AAAA|BBBB {good}\n\
         x 1024 35 1234\nx ssh-dss AAAA\nx {RSA} {}\n",
        STANDARD.encode(blob(ED, 1)),
    )
    .into_bytes();
    text.extend(b"x\xff y z\nx \xff\n");
    text.extend(format!("{} {good}\n", vec!["name"; 20_000].join(",")).bytes());
    text.extend(format!("x {good} caf\u{e9}").replace('\u{e9}', "e").bytes());
    text.push(0xe9);
    let hosts = ground.with(text);
    let lines: Vec<u64> = hosts.warnings().iter().map(|warning| warning.place.line).collect();
    assert_eq!(lines, [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12]);
    assert_eq!(hosts.warnings()[0].to_string(), format!("{}:1: its end is missing", ground.path().display()));
    assert_eq!(hosts.verdict("x", &blob(ED, 1)), Verdict::Match);
    assert_eq!(hosts.verdict("name", &blob(ED, 1)), Verdict::Match);
    assert_eq!(hosts.key_types("x"), [ED]);
}

#[test]
fn a_missing_file_is_empty_and_an_unreadable_one_an_error() {
    let ground = Ground::new();
    let hosts = KnownHosts::load(&[ground.path()]).unwrap();
    assert_eq!(hosts.verdict("x", &blob(ED, 1)), Verdict::Unknown);
    let error = KnownHosts::load(&[ground.path(), ground.dir.path().to_owned()]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LocalFile);
    let expected = format!("cannot read known_hosts file {}: Is a directory", ground.dir.path().display());
    assert!(error.chain().starts_with(&expected), "{error:?}");
}

fn keygen(arguments: &[&str], path: &Path) -> String {
    let output = Command::new("ssh-keygen").args(arguments).arg("-f").arg(path).stdin(Stdio::null()).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the lines that `ssh-keygen -F` finds for a name.
fn found(name: &str, path: &Path) -> Vec<u64> {
    let output = keygen(&["-F", name], path);
    let line = |line: &str| line.strip_prefix("# Host ")?.split("line ").nth(1)?.split(' ').next()?.parse().ok();
    output.lines().filter_map(line).collect()
}

#[test]
fn names_match_as_ssh_keygen_finds_them() {
    let ground = Ground::new();
    let mut text = String::new();
    // Real keys: ssh-keygen parses them.
    let mut key = String::new();
    for (index, kind) in ["ed25519", "ecdsa"].iter().enumerate() {
        let path = ground.dir.path().join(index.to_string());
        keygen(&["-q", "-N", "", "-C", "", "-t", kind], &path);
        key = fs::read_to_string(path.with_extension("pub")).unwrap().trim().to_owned();
    }
    for hosts in [
        "a",
        "A.Example.com,b",
        "*",
        "*.example.com",
        "*.example.com,!b.example.com",
        "!b.example.com,*.example.com",
        "!a",
        "a?",
        "[a]:2222",
        "[*]:2222",
        "[a]:*",
        "@revoked a",
        "@cert-authority *.example.com",
        "10.0.0.?",
        "10.0.*,!10.0.0.7",
        "**a**",
        ",a,,b,",
        "::1",
        "[::1]:2222",
        "# a",
        "a*b*c",
        "x*\t",
    ] {
        text += &format!("{hosts} {key}\n");
    }
    let bad = format!("@broken a {key}\n|1|broken|a= {key}\na\na ssh-ed25519\n\n   \na\r\n");
    let compare = |text: &str| {
        let hosts = ground.with(text);
        for name in [
            "a",
            "b",
            "ab",
            "a.example.com",
            "b.example.com",
            "example.com",
            "[a]:2222",
            "[b]:2222",
            "[a]:2223",
            "10.0.0.7",
            "10.0.0.77",
            "::1",
            "[::1]:2222",
            "abc",
            "a1b2c",
            "acb",
            "x",
            "xyz",
        ] {
            let own = hosts.files[0].lines_of(name);
            assert_eq!(own, found(name, &ground.path()), "{name:?}");
        }
    };
    compare(&format!("{bad}{text}"));
    // Hashed by ssh-keygen: plain names become one hashed line each.
    fs::write(ground.path(), &text).unwrap();
    keygen(&["-q", "-H"], &ground.path());
    let hashed = fs::read_to_string(ground.path()).unwrap();
    assert!(hashed.matches("|1|").count() > 5, "{hashed}");
    compare(&hashed);
}

#[test]
fn a_large_file_has_the_right_line_numbers() {
    let ground = Ground::new();
    let line =
        |index: u64| format!("host{index} {} {}\n", field(ED, index), if index.is_multiple_of(3) { "# x" } else { "" });
    let text: String =
        (1..=20_000).map(|index| if index % 1000 == 7 { "bad\n".to_owned() } else { line(index) }).collect();
    assert!(text.len() > 1024 * 1024);
    let hosts = ground.with(text);
    for index in [1, 2, 9_999, 19_999, 20_000] {
        assert_eq!(hosts.files[0].lines_of(&format!("host{index}")), [index]);
    }
    let expected: Vec<u64> = (1..=20_000).filter(|index| index % 1000 == 7).collect();
    assert_eq!(hosts.warnings().iter().map(|warning| warning.place.line).collect::<Vec<_>>(), expected);
}

#[test]
fn recording_makes_the_file_and_is_seen_at_once() {
    let ground = Ground::new();
    let path = ground.dir.path().join("ssh/known_hosts");
    let store = Store::default();
    let first = store.open(&[path.clone(), ground.path()]).unwrap();
    let second = store.open(std::slice::from_ref(&path)).unwrap();
    assert_eq!(store.record(&first, &path, "[Web]:2222", &blob(ED, 1)).unwrap(), Recorded::Added);
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("[web]:2222 {}\n", field(ED, 1)));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(second.verdict("[web]:2222", &blob(ED, 1)), Verdict::Match);
    assert_eq!(store.record(&second, &path, "[web]:2222", &blob(ED, 1)).unwrap(), Recorded::AlreadyThere);
    let changed = store.record(&second, &path, "[web]:2222", &blob(ED, 2)).unwrap();
    assert!(
        matches!(&changed, Recorded::Changed(key) if key.place == Place { file: path.clone(), line: 1 }),
        "{changed:?}"
    );
    assert_eq!(store.record(&second, &path, "[web]:2222", &blob(RSA, 2)).unwrap(), Recorded::Added);
    assert_eq!(second.key_types("[web]:2222"), [ED, RSA]);
    assert_eq!(found("[web]:2222", &path), [1, 2]);

    let error = store.record(&first, &ground.dir.path().join("no/such/dir"), "a", &blob(ED, 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LocalFile);
    let expected = format!("cannot record the key of a in {}/no/such/dir: No such file", ground.dir.path().display());
    assert!(error.chain().starts_with(&expected), "{error:?}");
    assert!(!ground.dir.path().join("no").exists());
}

#[test]
fn a_match_or_revocation_in_another_file_writes_nothing() {
    let ground = Ground::new();
    let system = ground.dir.path().join("system");
    fs::write(&system, format!("a {}\n@revoked * {}\n", field(ED, 1), field(ED, 2))).unwrap();
    let store = Store::default();
    let hosts = store.open(&[ground.path(), system.clone()]).unwrap();
    assert_eq!(store.record(&hosts, &ground.path(), "a", &blob(ED, 1)).unwrap(), Recorded::AlreadyThere);
    let revoked = store.record(&hosts, &ground.path(), "b", &blob(ED, 2)).unwrap();
    assert_eq!(revoked, Recorded::Revoked(Place { file: system, line: 2 }));
    assert_eq!(fs::read(ground.path()).unwrap(), b"");
}

#[test]
fn what_others_did_to_the_file_is_read_before_recording() {
    let ground = Ground::new();
    let store = Store::default();
    fs::write(ground.path(), format!("a {}", field(ED, 1))).unwrap();
    let hosts = store.open(&[ground.path()]).unwrap();
    assert_eq!(hosts.verdict("a", &blob(ED, 1)), Verdict::Match);
    // The last line has no end yet.
    assert_eq!(store.record(&hosts, &ground.path(), "b", &blob(ED, 2)).unwrap(), Recorded::Added);
    assert_eq!(fs::read_to_string(ground.path()).unwrap(), format!("a {}\nb {}\n", field(ED, 1), field(ED, 2)));
    assert_eq!(hosts.verdict("b", &blob(ED, 2)), Verdict::Match);
    // Another process appends.
    let mut file = fs::OpenOptions::new().append(true).open(ground.path()).unwrap();
    writeln!(file, "c {}\nd {}", field(ED, 3), field(ED, 4)).unwrap();
    assert_eq!(hosts.verdict("c", &blob(ED, 3)), Verdict::Unknown);
    assert_eq!(store.record(&hosts, &ground.path(), "c", &blob(ED, 3)).unwrap(), Recorded::AlreadyThere);
    let changed = store.record(&hosts, &ground.path(), "d", &blob(ED, 5)).unwrap();
    assert_eq!(changed, Recorded::Changed(known(&ground, 4, ED, 4)));
    // ssh-keygen -R puts another file in its place; an editor writes it in place.
    keygen(&["-q", "-R", "d"], &ground.path());
    assert_eq!(store.record(&hosts, &ground.path(), "d", &blob(ED, 5)).unwrap(), Recorded::Added);
    assert_eq!(hosts.verdict("d", &blob(ED, 5)), Verdict::Match);
    fs::write(ground.path(), format!("# short\ne {}\n", field(ED, 6))).unwrap();
    assert_eq!(store.record(&hosts, &ground.path(), "e", &blob(ED, 6)).unwrap(), Recorded::AlreadyThere);
    assert_eq!(hosts.verdict("a", &blob(ED, 1)), Verdict::Unknown);
}

#[test]
fn nothing_is_written_for_a_name_that_is_no_name() {
    let ground = Ground::new();
    let store = Store::default();
    let hosts = store.open(&[ground.path()]).unwrap();
    for name in ["", "*", "a b", "a,b", "!a", "#a", "@revoked", "|1|a", "a\nb", "web?", "a\u{2028}b"] {
        let error = store.record(&hosts, &ground.path(), name, &blob(ED, 1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{name:?}");
    }
    for blob in [&b""[..], b"\0\0\0\x03a b", b"\0\0\0\x03a"] {
        let error = store.record(&hosts, &ground.path(), "a", blob).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
    }
    assert!(!ground.path().exists());
}

#[test]
fn the_null_device_takes_every_key() {
    let store = Store::default();
    let null = PathBuf::from("/dev/null");
    let hosts = store.open(std::slice::from_ref(&null)).unwrap();
    for seed in 0..3 {
        let name = format!("host{seed}");
        assert_eq!(store.record(&hosts, &null, &name, &blob(ED, seed)).unwrap(), Recorded::Added);
    }
    assert_eq!(hosts.verdict("host0", &blob(ED, 0)), Verdict::Match);
}

/// Records the keys of hosts 0 to 99, starting at another one for each seed.
fn record_a_hundred(path: &Path, seed: u64) {
    let store = Store::default();
    let hosts = store.open(&[path.to_owned()]).unwrap();
    for step in 0..100 {
        let index = (step + seed * 13) % 100;
        let name = format!("host{index}");
        let recorded = store.record(&hosts, path, &name, &blob(ED, index)).unwrap();
        assert!(matches!(recorded, Recorded::Added | Recorded::AlreadyThere), "{recorded:?}");
        assert_eq!(hosts.verdict(&name, &blob(ED, index)), Verdict::Match);
    }
}

const CHILD: &str = "FLEET_TEST_KNOWN_HOSTS";

/// Not a test of its own: what [`threads_and_processes_lose_and_double_nothing`] runs in other processes.
#[test]
fn child_records_a_hundred() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    record_a_hundred(Path::new(&path), u64::from(std::process::id()));
}

#[test]
fn threads_and_processes_lose_and_double_nothing() {
    let ground = Ground::new();
    let path = ground.dir.path().join("new/known_hosts");
    let children: Vec<_> = (0..4)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "known_hosts::tests::child_records_a_hundred"])
                .env(CHILD, &path)
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    let store = Arc::new(Store::default());
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (store, path) = (Arc::clone(&store), &path);
            scope.spawn(move || {
                record_a_hundred(path, seed);
                let hosts = store.open(std::slice::from_ref(path)).unwrap();
                for index in (100..200).rev() {
                    store.record(&hosts, path, &format!("host{index}"), &blob(ED, index)).unwrap();
                }
            });
        }
    });
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let text = fs::read_to_string(&path).unwrap();
    let lines: BTreeMap<String, usize> = text.lines().fold(BTreeMap::new(), |mut lines, line| {
        *lines.entry(line.to_owned()).or_default() += 1;
        lines
    });
    let expected: BTreeSet<String> = (0..200).map(|index| format!("host{index} {}", field(ED, index))).collect();
    assert_eq!(lines.keys().cloned().collect::<BTreeSet<_>>(), expected);
    assert!(lines.values().all(|&count| count == 1));
}

#[test]
fn a_file_that_cannot_be_written_is_an_error() {
    let ground = Ground::new();
    let hosts = ground.with("");
    if nix::unistd::getuid().is_root() {
        // Root writes anything but a full device.
        let full = PathBuf::from("/dev/full");
        let error = Store::default().record(&hosts, &full, "a", &blob(ED, 1)).unwrap_err();
        assert!(error.chain().starts_with("cannot record the key of a in /dev/full: No space left"), "{error:?}");
    } else {
        fs::set_permissions(ground.path(), Permissions::from_mode(0o400)).unwrap();
        let error = Store::default().record(&hosts, &ground.path(), "a", &blob(ED, 1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LocalFile);
    }
}

#[test]
fn authorities_vouch_for_their_hosts_alone() {
    let ground = Ground::new();
    let hosts = ground.with(format!(
        "@cert-authority *.example,!bad.example {}\na.example {}\n@revoked * {}\n",
        field(ED, 1),
        field(ED, 2),
        field(RSA, 3),
    ));
    assert_eq!(hosts.authority("A.example", &blob(ED, 1)), Some(ground.place(1)));
    assert_eq!(hosts.authority("bad.example", &blob(ED, 1)), None);
    assert_eq!(hosts.authority("a.example", &blob(ED, 2)), None, "a plain key is no authority");
    assert_eq!(hosts.authority("a.example", &blob(RSA, 3)), None);
    assert!(hosts.has_authority("a.example") && !hosts.has_authority("bad.example"));
}

#[test]
fn keys_are_recorded_together() {
    let ground = Ground::new();
    let store = Store::default();
    let hosts = store.open(&[ground.path()]).unwrap();
    fs::write(ground.path(), format!("old {}\n@revoked * {}", field(ED, 1), field(ED, 7))).unwrap();
    let keys = [
        NewKey::new("New", blob(ED, 2)),
        NewKey::new("new", blob(ED, 2)),
        NewKey::new("new", blob(EC, 3)),
        NewKey::new("new", blob(ED, 4)),
        NewKey::new("old", blob(ED, 1)),
        NewKey::new("old", blob(ED, 5)),
        NewKey::new("other", blob(ED, 7)).replacing(),
    ];
    let recorded = store.record_all(&hosts, &ground.path(), &keys).unwrap();
    assert_eq!(
        recorded,
        [
            Recorded::Added,
            Recorded::AlreadyThere,
            Recorded::Added,
            Recorded::Changed(known(&ground, 3, ED, 2)),
            Recorded::AlreadyThere,
            Recorded::Changed(known(&ground, 1, ED, 1)),
            Recorded::Revoked(ground.place(2)),
        ]
    );
    let expected =
        format!("old {}\n@revoked * {}\nnew {}\nnew {}\n", field(ED, 1), field(ED, 7), field(ED, 2), field(EC, 3),);
    assert_eq!(fs::read_to_string(ground.path()).unwrap(), expected);
    let error =
        store.record_all(&hosts, &ground.path(), &[NewKey::new("a", blob(ED, 1)), NewKey::new("*", blob(ED, 1))]);
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(fs::read_to_string(ground.path()).unwrap(), expected, "all or nothing");
    assert_eq!(store.record_all(&hosts, &ground.path(), &[]).unwrap(), []);
}

#[test]
fn a_replaced_key_leaves_the_rest_the_mode_and_the_link() {
    use std::os::unix::fs::MetadataExt as _;

    let ground = Ground::new();
    let real = ground.dir.path().join("real");
    let system = ground.dir.path().join("system");
    let text = format!("# mine\nweb1,web2 {}\nweb1 {}\nweb3 {}", field(ED, 1), field(RSA, 2), field(ED, 3));
    fs::write(&real, text).unwrap();
    fs::write(&system, format!("web* {}\n", field(ED, 4))).unwrap();
    fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(&real, ground.path()).unwrap();
    let inode = fs::metadata(&real).unwrap().ino();
    let store = Store::default();
    let hosts = store.open(&[ground.path(), system.clone()]).unwrap();
    let keys = [
        NewKey::new("web1", blob(ED, 9)).replacing(),
        NewKey::new("web1", blob(ED, 9)).replacing(),
        NewKey::new("web5", blob(EC, 5)),
    ];
    let recorded = store.record_all(&hosts, &ground.path(), &keys).unwrap();
    let left = Place { file: system, line: 1 };
    assert_eq!(recorded, [Recorded::Replaced(Some(left)), Recorded::AlreadyThere, Recorded::Added]);
    let expected = format!(
        "# mine\nweb2 {}\nweb3 {}\nweb1 {}\nweb5 {}\n",
        field(ED, 1),
        field(ED, 3),
        field(ED, 9),
        field(EC, 5),
    );
    assert_eq!(fs::read_to_string(&real).unwrap(), expected);
    assert!(fs::symlink_metadata(ground.path()).unwrap().is_symlink());
    let metadata = fs::metadata(&real).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o640);
    assert_ne!(metadata.ino(), inode, "another file took its place");
    assert_eq!(fs::read_dir(ground.dir.path()).unwrap().count(), 3, "no temporary file is left");
    assert_eq!(hosts.verdict("web1", &blob(ED, 9)), Verdict::Match);
    assert_eq!(hosts.verdict("web1", &blob(RSA, 2)), Verdict::OtherTypeKnown(known(&ground, 4, ED, 9)));
    // The next one is added to the new file.
    assert_eq!(store.record(&hosts, &ground.path(), "web6", &blob(EC, 6)).unwrap(), Recorded::Added);
    assert_eq!(fs::read_to_string(&real).unwrap(), format!("{expected}web6 {}\n", field(EC, 6)));
}

#[test]
fn replacing_and_recording_side_by_side_lose_nothing() {
    let ground = Ground::new();
    fs::write(ground.path(), (0..50).map(|n| format!("old{n} {}\n", field(ED, n))).collect::<String>()).unwrap();
    std::thread::scope(|scope| {
        for part in 0..4 {
            let path = ground.path();
            // A store of its own each, as another process has.
            scope.spawn(move || {
                let store = Store::default();
                let hosts = store.open(std::slice::from_ref(&path)).unwrap();
                for n in (part..50).step_by(4) {
                    let keys = [
                        NewKey::new(format!("old{n}"), blob(ED, 1000 + n)).replacing(),
                        NewKey::new(format!("new{n}"), blob(ED, 2000 + n)),
                    ];
                    let recorded = store.record_all(&hosts, &path, &keys).unwrap();
                    assert_eq!(recorded, [Recorded::Replaced(None), Recorded::Added]);
                }
            });
        }
    });
    let text = fs::read_to_string(ground.path()).unwrap();
    let lines: BTreeSet<String> = text.lines().map(str::to_owned).collect();
    let old = (0..50).map(|n| format!("old{n} {}", field(ED, 1000 + n)));
    let expected: BTreeSet<String> = old.chain((0..50).map(|n| format!("new{n} {}", field(ED, 2000 + n)))).collect();
    assert_eq!((text.lines().count(), lines), (100, expected));
}

proptest! {
    #[test]
    fn any_bytes_are_parsed(bytes: Vec<u8>, name: String) {
        let parsed = parse::parse(&bytes);
        prop_assert_eq!(parsed.ends, bytes.iter().filter(|&&byte| byte == b'\n').count() as u64);
        let mut data = file::Data::default();
        data.extend(&bytes, &fs::metadata("/dev/null").unwrap());
        let _ = key_type(&bytes);
        let _ = name;
    }

    #[test]
    fn any_fields_are_parsed(names in "[a-z*?!,|@# \\[\\]:1=/+-]{0,40}", kind in "ssh-rsa|ssh-ed25519|[a-z0-9-]{0,9}", rest in "[A-Za-z0-9+/= \r]{0,60}", name in "[a-z0-9.]{0,6}") {
        let parsed = parse::parse(format!("{names} {kind} {rest}\n{names} {}", field(ED, 1)).as_bytes());
        for line in parsed.lines {
            if let parse::Names::Patterns(patterns) = line.names {
                let _ = parse::matches(&patterns, &name);
            }
        }
    }

    #[test]
    fn a_hashed_line_matches_its_name_alone(name in "[a-z0-9.-]{1,30}", other in "[a-z0-9.-]{1,30}", salt: [u8; 20]) {
        use hmac::Mac as _;
        let mut mac = hmac::Hmac::<sha1::Sha1>::new_from_slice(&salt).unwrap();
        mac.update(name.as_bytes());
        let hash = STANDARD.encode(mac.finalize().into_bytes());
        let text = format!("|1|{}|{hash} {}\n", STANDARD.encode(salt), field(ED, 1));
        let parsed = parse::parse(text.as_bytes());
        let [parse::Line { names: parse::Names::Hashed(hashed), .. }] = &parsed.lines[..] else {
            panic!("{parsed:?}");
        };
        prop_assert!(hashed.matches(&name));
        prop_assert_eq!(hashed.matches(&other), name == other);
    }

    #[test]
    fn a_pattern_matches_as_a_plain_reading_of_it(pattern in "[ab*?]{0,8}", name in "[ab]{0,8}") {
        fn plain(pattern: &[u8], name: &[u8]) -> bool {
            match (pattern, name) {
                ([], []) => true,
                ([b'*', rest @ ..], _) => plain(rest, name) || name.split_first().is_some_and(|(_, tail)| plain(pattern, tail)),
                ([b'?', rest @ ..], [_, tail @ ..]) => plain(rest, tail),
                ([first, rest @ ..], [head, tail @ ..]) => first == head && plain(rest, tail),
                _ => false,
            }
        }
        prop_assert_eq!(wildmatch::WildMatch::new(&pattern).matches(&name), plain(pattern.as_bytes(), name.as_bytes()));
    }
}
