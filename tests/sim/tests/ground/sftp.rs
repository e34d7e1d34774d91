//! SFTP: the real client on an honest server, and raw packets on one that lies.

use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::{Output, Stdio};
use std::time::Duration;

use crate::common::{Ground, text};
use fleet_sim::{Fault, HostPlan, Mode, SftpEvil};

fn honest() -> Ground {
    Ground::one(HostPlan::new().mode(Mode::canned("")))
}

/// Runs `sftp -b -` with these lines.
fn batch(ground: &Ground, lines: &str) -> Output {
    let mut child = ground
        .client("sftp", &ground.sim.hosts()[0], &["-b", "-"])
        .current_dir(ground.dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_tree_goes_there_and_back_with_modes_and_times() {
    let ground = honest();
    let dir = ground.dir();
    fs::create_dir_all(dir.join("tree/sub")).unwrap();
    let big: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 253) as u8).collect();
    fs::write(dir.join("tree/big"), &big).unwrap();
    fs::write(dir.join("tree/sub/empty"), b"").unwrap();
    fs::set_permissions(dir.join("tree/big"), fs::Permissions::from_mode(0o640)).unwrap();
    let done = batch(&ground, "put -rp tree\nget -rp tree back\nls -la tree\n");
    assert!(done.status.success(), "{done:?}");
    let home = ground.sim.hosts()[0].home();
    for root in [home.join("tree"), dir.join("back")] {
        assert!(fs::read(root.join("big")).unwrap() == big);
        assert_eq!(fs::read(root.join("sub/empty")).unwrap(), b"");
        let (there, here) = (fs::metadata(root.join("big")).unwrap(), fs::metadata(dir.join("tree/big")).unwrap());
        assert_eq!((there.mode(), there.mtime()), (here.mode(), here.mtime()));
    }
    assert!(text(&done.stdout).contains(" big\n"), "{done:?}");
    assert_eq!(ground.sim.stats().sftp, 1);
}

#[test]
fn every_request_of_the_client_works() {
    let ground = honest();
    let home = ground.sim.hosts()[0].home();
    fs::create_dir_all(home).unwrap();
    fs::write(home.join("a"), "x").unwrap();
    let lines = "mkdir d\nrename a d/b\nln -s d/b link\nln d/b hard\nchmod 600 d/b\nls -l link\nrm hard\n\
                 rm link\nrename d/b c\nrmdir d\nln -s nowhere dangling\ndf\npwd\n";
    let done = batch(&ground, lines);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(fs::metadata(home.join("c")).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::read_link(home.join("dangling")).unwrap().to_str(), Some("nowhere"));
    let pwd = format!("Remote working directory: {}\n", home.canonicalize().unwrap().display());
    assert!(text(&done.stdout).contains(&pwd), "{done:?}");
    for (line, error) in [
        ("rm nothing", "No such file"),
        ("rmdir c", "No such file"),
        ("mkdir c", "Failure"),
        ("rename nothing x", "No such file"),
    ] {
        let done = batch(&ground, line);
        assert!(!done.status.success() && text(&done.stderr).contains(error), "{line}: {done:?}");
    }
}

#[test]
fn names_that_are_not_utf8_and_many_names() {
    let ground = honest();
    let home = ground.sim.hosts()[0].home();
    fs::create_dir_all(home).unwrap();
    let odd = std::ffi::OsString::from_vec(b"odd\xff\xfe".to_vec());
    fs::write(home.join("many").with_file_name(&odd), "odd").unwrap();
    fs::create_dir(home.join("many")).unwrap();
    for number in 0..350 {
        fs::write(home.join(format!("many/{number}")), "").unwrap();
    }
    let done = batch(&ground, "get odd* got\nls -1 many\n");
    assert!(done.status.success(), "{done:?}");
    assert_eq!(fs::read(ground.dir().join("got")).unwrap(), b"odd");
    assert_eq!(text(&done.stdout).lines().filter(|line| line.starts_with("many/")).count(), 350);
}

#[test]
fn a_confined_server_shows_its_home_as_the_root() {
    let ground = Ground::one(HostPlan { sftp_chroot: true, ..HostPlan::new() });
    let home = ground.sim.hosts()[0].home();
    fs::write(home.join("a"), "x").unwrap();
    let done = batch(&ground, "pwd\nget /a got\nget ../../../a got2\ncd ..\npwd\n");
    assert!(done.status.success(), "{done:?}");
    assert_eq!(text(&done.stdout).matches("Remote working directory: /\n").count(), 2, "{done:?}");
}

#[test]
fn faults_of_transfers() {
    let big = vec![b'x'; 500_000];
    for fault in ["refuse-subsystem", "cut-output:100000", "disk-full:100000"] {
        let ground = Ground::one(HostPlan::new().fault(fault.parse().unwrap()));
        fs::write(ground.dir().join("big"), &big).unwrap();
        let done = batch(&ground, "put big\n");
        assert!(!done.status.success(), "{fault}: {done:?}");
        let there = fs::read(ground.sim.hosts()[0].home().join("big")).unwrap_or_default();
        assert!(there.len() < big.len(), "{fault}: {}", there.len());
        if fault.starts_with("disk-full") {
            assert!(text(&done.stderr).contains("Failure"), "{done:?}");
        }
    }
}

#[test]
fn a_server_that_stops_answering() {
    let ground = Ground::one(HostPlan::new().fault(Fault::StallSftp { after_requests: 1 }));
    let mut child = ground
        .client("sftp", &ground.sim.hosts()[0], &["-b", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"ls\n").unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(child.try_wait().unwrap(), None);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Sends SFTP packets over `ssh -s … sftp` and reads the answers.
struct Raw {
    child: std::process::Child,
}

impl Raw {
    fn new(ground: &Ground) -> Self {
        let child = ground
            .client("ssh", &ground.sim.hosts()[0], &["-s"])
            .arg("sftp")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut raw = Self { child };
        let version = raw.ask(1, &[&[0, 0, 0, 3]]);
        assert_eq!((version[0], &version[1..5]), (2, &[0, 0, 0, 3][..]));
        raw
    }

    /// One request with these fields; the answer without its length.
    fn ask(&mut self, kind: u8, fields: &[&[u8]]) -> Vec<u8> {
        use std::io::Read as _;
        let mut packet = vec![kind];
        fields.iter().for_each(|field| packet.extend(*field));
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(&(packet.len() as u32).to_be_bytes()).unwrap();
        stdin.write_all(&packet).unwrap();
        stdin.flush().unwrap();
        let stdout = self.child.stdout.as_mut().unwrap();
        let mut len = [0; 4];
        stdout.read_exact(&mut len).unwrap();
        let mut answer = vec![0; u32::from_be_bytes(len) as usize];
        stdout.read_exact(&mut answer).unwrap();
        answer
    }

    /// `OPENDIR` and one `READDIR`: the names.
    fn list(&mut self, path: &[u8]) -> Vec<Vec<u8>> {
        let handle = self.ask(11, &[&[0; 4], &string(path)]);
        assert_eq!(handle[0], 102, "{handle:?}");
        let names = self.ask(12, &[&[0; 4], &handle[5..]]);
        assert_eq!(names[0], 104, "{names:?}");
        let mut rest = &names[9..];
        let mut take = |what: usize| {
            let (head, tail) = rest.split_at(what);
            rest = tail;
            head.to_vec()
        };
        let count = u32::from_be_bytes(names[5..9].try_into().unwrap());
        (0..count)
            .map(|_| {
                let mut field = || {
                    let len = u32::from_be_bytes(take(4).try_into().unwrap());
                    take(len as usize)
                };
                let name = field();
                field();
                let attrs = take(4);
                if attrs != [0; 4] {
                    take(8 + 8 + 4 + 8);
                }
                name
            })
            .collect()
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

fn liar(evil: SftpEvil) -> Ground {
    let ground = Ground::one(HostPlan::new().sftp_evil(evil));
    fs::write(ground.sim.hosts()[0].home().join("ten"), "0123456789").unwrap();
    ground
}

#[test]
fn bad_names_are_listed_and_can_be_read() {
    let ground = liar(SftpEvil::bad_names());
    let mut raw = Raw::new(&ground);
    let names = raw.list(b".");
    let SftpEvil::Names(bad) = SftpEvil::bad_names() else { unreachable!() };
    assert!(bad.iter().all(|name| names.contains(name)), "{names:?}");
    assert!(names.contains(&b"ten".to_vec()));
    let handle = raw.ask(3, &[&[0; 4], &string(b"./../../evil"), &[0, 0, 0, 1], &[0; 4]]);
    assert_eq!(handle[0], 102, "{handle:?}");
    let data = raw.ask(5, &[&[0; 4], &handle[5..], &[0; 8], &[0, 0, 1, 0]]);
    assert_eq!(data, [&[103, 0, 0, 0, 0][..], &string(b"evil\n")].concat());
}

#[test]
fn sizes_listings_and_reads_that_lie() {
    let size = |answer: &[u8]| u64::from_be_bytes(answer[9..17].try_into().unwrap());
    for (delta, told) in [(1000, 1010), (-4, 6)] {
        let ground = liar(SftpEvil::SizeLie(delta));
        assert_eq!(size(&Raw::new(&ground).ask(17, &[&[0; 4], &string(b"ten")])), told);
    }
    let ground = liar(SftpEvil::EndlessDirectory);
    let mut raw = Raw::new(&ground);
    let handle = raw.ask(11, &[&[0; 4], &string(b".")]);
    for _ in 0..50 {
        assert_eq!(raw.ask(12, &[&[0; 4], &handle[5..]])[0], 104);
    }
    let ground = liar(SftpEvil::DirectoryLoop);
    let names = Raw::new(&ground).list(b"loop/loop/loop");
    assert!(names.contains(&b"loop".to_vec()) && names.contains(&b"ten".to_vec()));
    let ground = liar(SftpEvil::LongReads);
    let mut raw = Raw::new(&ground);
    let handle = raw.ask(3, &[&[0; 4], &string(b"ten"), &[0, 0, 0, 1], &[0; 4]]);
    assert_eq!(raw.ask(5, &[&[0; 4], &handle[5..], &[0; 8], &[0, 0, 0, 10]]).len(), 9 + 1010);
}

#[test]
fn a_link_that_is_a_directory_a_moment_later() {
    let ground = liar(SftpEvil::LinkThenDirectory(b"/tmp/outside".to_vec()));
    let mut raw = Raw::new(&ground);
    let names = raw.list(b".");
    assert_eq!(names.iter().filter(|name| *name == b"link").count(), 2);
    assert_eq!(raw.list(b"./link"), [b"inside"]);
    let target = raw.ask(19, &[&[0; 4], &string(b"./link")]);
    assert!(target.windows(12).any(|part| part == b"/tmp/outside"));
}
