//! Files over SFTP, also from servers that lie.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use fleet::op::{Get, Put};
use fleet::{Class, ErrorKind, Phase};
use fleet_sim::{Fault, HostPlan, SftpEvil};

use crate::ground::{Ground, pool, run, run_in, run_with_notes};

fn noise(len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..len).map(|_| random.u8(..)).collect()
}

/// Every file below a directory, with its bytes.
fn tree(root: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                files.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn bytes_of_any_length_arrive_and_come_back() {
    let ground = Ground::one(HostPlan::new());
    for len in [0, 1, 29_999, 30_000, 30_001, 1_000_000, 9_000_001] {
        let local = ground.path("local");
        fs::write(&local, noise(len)).unwrap();
        let put = run(ground.first(), Put::new(std::slice::from_ref(&local), "remote").unwrap());
        assert_eq!(put.class(), Class::Ok, "{put:?}");
        assert_eq!(put.report.facts.transferred_bytes, len as u64);
        assert!(fs::read(ground.home().join("remote")).unwrap() == noise(len), "{len} bytes sent");
        let out = ground.path("out");
        let get = run(ground.first(), Get::new("remote", &out).unwrap());
        assert_eq!(get.class(), Class::Ok, "{get:?}");
        assert!(fs::read(out.join("sim0001/remote")).unwrap() == noise(len), "{len} bytes fetched");
    }
    let left: Vec<_> = fs::read_dir(ground.home()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["remote"], "no temporary file stays");
}

#[test]
fn a_mode_is_kept_both_ways() {
    let ground = Ground::one(HostPlan::new());
    let local = ground.path("script");
    fs::write(&local, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&local, fs::Permissions::from_mode(0o751)).unwrap();
    assert!(run(ground.first(), Put::new(&[local], "script").unwrap()).is_ok());
    let mode = |path: std::path::PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(ground.home().join("script")), 0o751);
    assert!(run(ground.first(), Get::new("script", ground.path("out")).unwrap()).is_ok());
    assert_eq!(mode(ground.path("out/sim0001/script")), 0o751);
}

#[test]
fn a_tree_goes_there_and_back() {
    let ground = Ground::one(HostPlan::new());
    let root = ground.path("tree");
    fs::create_dir_all(root.join("a/b c/ü")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    for (name, len) in [("top", 10), ("a/one", 100_000), ("a/b c/two", 0), ("a/b c/ü/three", 33)] {
        fs::write(root.join(name), noise(len)).unwrap();
    }
    let put = run(ground.first(), Put::new(std::slice::from_ref(&root), "copy").unwrap());
    assert_eq!(put.class(), Class::Ok, "{put:?}");
    assert_eq!(put.report.facts.files, 4);
    assert_eq!(tree(&ground.home().join("copy")), tree(&root));
    assert!(ground.home().join("copy/empty").is_dir());
    let get = run(ground.first(), Get::new("copy/", ground.path("out")).unwrap());
    assert_eq!(get.class(), Class::Ok, "{get:?}");
    assert_eq!(tree(&ground.path("out/sim0001/copy")), tree(&root));
    // Into a directory that is there: under its own name, as cp does.
    assert!(run(ground.first(), Put::new(std::slice::from_ref(&root), "copy").unwrap()).is_ok());
    assert_eq!(tree(&ground.home().join("copy/tree")), tree(&root));
}

#[test]
fn an_existing_file_is_replaced_whole_and_a_link_stays_a_link() {
    let ground = Ground::one(HostPlan::new());
    fs::write(ground.home().join("real"), "old and long").unwrap();
    std::os::unix::fs::symlink("real", ground.home().join("link")).unwrap();
    let local = ground.path("new");
    fs::write(&local, "new").unwrap();
    assert!(run(ground.first(), Put::new(&[local], "link").unwrap()).is_ok());
    assert_eq!(fs::read(ground.home().join("real")).unwrap(), b"new");
    assert!(ground.home().join("link").symlink_metadata().unwrap().is_symlink());
}

#[test]
fn reads_that_bring_less_than_was_asked_for_are_put_together() {
    for most in [1, 4096, 16_384, 29_999] {
        let ground = Ground::one(HostPlan::new().sftp_evil(SftpEvil::ShortReads(most)));
        for (name, len) in [("long", 400_000), ("short", 20_000), ("few", 7), ("none", 0)] {
            let len = len.min(most as usize * 300);
            fs::write(ground.home().join(name), noise(len)).unwrap();
            let get = run(ground.first(), Get::new(name, ground.path("out")).unwrap());
            assert_eq!(get.class(), Class::Ok, "{most}: {get:?}");
            let got = fs::read(ground.path("out/sim0001").join(name)).unwrap();
            assert!(got == fs::read(ground.home().join(name)).unwrap(), "{name} of {most}");
        }
    }
}

#[test]
fn a_file_that_is_told_to_be_empty_is_fetched_whole() {
    let len = 1_000_000;
    let ground = Ground::one(HostPlan::new().sftp_evil(SftpEvil::SizeLie(-len)));
    fs::write(ground.home().join("grown"), noise(1_000_000)).unwrap();
    let get = run(ground.first(), Get::new("grown", ground.path("out")).unwrap());
    assert_eq!(get.class(), Class::Ok, "{get:?}");
    assert!(fs::read(ground.path("out/sim0001/grown")).unwrap() == noise(1_000_000));
}

#[test]
fn without_extensions_a_file_is_replaced_all_the_same() {
    let ground = Ground::one(HostPlan::new().sftp_evil(SftpEvil::NoExtensions));
    let local = ground.path("new");
    for text in ["first", "second"] {
        fs::write(&local, text).unwrap();
        let put = run(ground.first(), Put::new(std::slice::from_ref(&local), "x").unwrap());
        assert_eq!(put.class(), Class::Ok, "{put:?}");
        assert_eq!(fs::read_to_string(ground.home().join("x")).unwrap(), text);
    }
    fs::create_dir(ground.home().join("d")).unwrap();
    fs::create_dir(ground.home().join("d/new")).unwrap();
    let put = run(ground.first(), Put::new(&[local], "d").unwrap());
    assert_eq!(put.class(), Class::Failed, "{put:?}");
    assert!(ground.home().join("d/new").is_dir());
    assert_eq!(fs::read_dir(ground.home().join("d")).unwrap().count(), 1, "no temporary file stays");
}

#[test]
fn a_server_without_modes_takes_files_and_it_is_told() {
    for (evil, mode) in [(SftpEvil::NoOpenModes, 0o751), (SftpEvil::NoModes, 0o600)] {
        let ground = Ground::one(HostPlan::new().sftp_evil(evil.clone()));
        let root = ground.path("tree");
        fs::create_dir(&root).unwrap();
        for name in ["a", "b"] {
            fs::write(root.join(name), name).unwrap();
            fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o751)).unwrap();
        }
        let (put, notes) = run_with_notes(ground.first(), Put::new(&[root], "tree").unwrap());
        assert_eq!(put.class(), Class::Ok, "{evil:?}: {put:?}");
        assert_eq!(tree(&ground.home().join("tree")).len(), 2);
        let found = fs::metadata(ground.home().join("tree/b")).unwrap().permissions().mode() & 0o7777;
        assert_eq!(found, mode, "{evil:?}");
        let warned = notes.iter().filter(|note| format!("{note:?}").contains("sets no modes")).count();
        assert_eq!(warned, usize::from(evil == SftpEvil::NoModes), "{notes:?}");
    }
}

#[test]
fn several_files_need_a_directory() {
    let ground = Ground::one(HostPlan::new());
    let locals = [ground.path("a"), ground.path("b")];
    for local in &locals {
        fs::write(local, "x").unwrap();
    }
    let result = run(ground.first(), Put::new(&locals, "nowhere").unwrap());
    assert_eq!(result.class(), Class::Failed);
    assert_eq!(result.error().unwrap().chain(), "cannot write into nowhere: no such file or directory");
    fs::create_dir(ground.home().join("dir")).unwrap();
    assert!(run(ground.first(), Put::new(&locals, "dir").unwrap()).is_ok());
    assert_eq!(tree(&ground.home().join("dir")).len(), 2);
}

#[test]
fn what_the_server_refuses_is_a_failure_that_names_the_file() {
    let ground = Ground::one(HostPlan::new());
    let result = run(ground.first(), Get::new("missing", ground.path("out")).unwrap());
    assert_eq!(result.class(), Class::Failed);
    let error = result.error().unwrap();
    assert_eq!((error.kind(), error.phase()), (ErrorKind::RemoteFile, Some(Phase::Transfer)));
    assert_eq!(error.chain(), "cannot get missing: no such file or directory");
    let local = ground.path("x");
    fs::write(&local, "x").unwrap();
    let result = run(ground.first(), Put::new(&[local], "no/such/dir/x").unwrap());
    assert_eq!(result.error().unwrap().chain(), "cannot write no/such/dir/x: no such file or directory");
}

#[test]
fn hostile_names_fail_the_host_and_write_nothing_outside() {
    let ground = Ground::one(HostPlan::new().sftp_evil(SftpEvil::bad_names()));
    fs::create_dir(ground.home().join("dir")).unwrap();
    fs::write(ground.home().join("dir/good"), "good").unwrap();
    let out = ground.path("deep/er/out");
    let result = run(ground.first(), Get::new("dir", &out).unwrap());
    assert_eq!(result.class(), Class::Failed, "{result:?}");
    assert!(result.error().unwrap().to_string().contains("refused"), "{result:?}");
    let host_dir = out.join("sim0001");
    let outside: Vec<_> = tree(ground.dir.path()).into_iter().map(|(name, _)| ground.path(&name)).collect();
    let outside: Vec<_> =
        outside.iter().filter(|path| !path.starts_with(&host_dir) && path.starts_with(ground.path("deep"))).collect();
    assert!(outside.is_empty(), "{outside:?}");
}

#[test]
fn a_link_sent_for_a_directory_leads_nowhere_outside() {
    let ground = Ground::one(HostPlan::new());
    let out = ground.path("out");
    fs::create_dir_all(out.join("sim0001")).unwrap();
    let elsewhere = ground.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    // What a hostile server could hope for: that `DIR/HOST/dir` is a link.
    std::os::unix::fs::symlink(&elsewhere, out.join("sim0001/dir")).unwrap();
    fs::create_dir(ground.home().join("dir")).unwrap();
    fs::write(ground.home().join("dir/file"), "x").unwrap();
    let result = run(ground.first(), Get::new("dir", &out).unwrap());
    assert_eq!(result.class(), Class::Error, "{result:?}");
    assert_eq!(tree(&elsewhere), []);
}

#[test]
fn loops_and_endless_directories_come_to_an_end() {
    let ground = Ground::one(HostPlan::new());
    fs::create_dir(ground.home().join("dir")).unwrap();
    fs::write(ground.home().join("dir/file"), "x").unwrap();
    std::os::unix::fs::symlink(".", ground.home().join("dir/again")).unwrap();
    std::os::unix::fs::symlink("nowhere", ground.home().join("dir/dangling")).unwrap();
    let result = run(ground.first(), Get::new("dir", ground.path("out")).unwrap());
    assert_eq!(result.class(), Class::Ok, "{result:?}");
    assert_eq!(tree(&ground.path("out/sim0001/dir")), [("file".to_owned(), b"x".to_vec())]);
    let evil = Ground::one(HostPlan::new().sftp_evil(SftpEvil::DirectoryLoop));
    fs::create_dir(evil.home().join("dir")).unwrap();
    let result = run(evil.first(), Get::new("dir", evil.path("out")).unwrap());
    assert!(matches!(result.class(), Class::Ok | Class::Failed), "{result:?}");
}

#[test]
fn an_endless_directory_is_given_up() {
    let evil = Ground::one(HostPlan::new().sftp_evil(SftpEvil::EndlessDirectory));
    fs::create_dir(evil.home().join("dir")).unwrap();
    let result = run(evil.first(), Get::new("dir", evil.path("out")).unwrap());
    assert_eq!(result.class(), Class::Failed, "{result:?}");
    assert!(result.error().unwrap().to_string().contains("more than"), "{result:?}");
}

#[test]
fn an_answer_longer_than_asked_for_ends_the_transfer() {
    let evil = Ground::one(HostPlan::new().sftp_evil(SftpEvil::LongReads));
    fs::write(evil.home().join("file"), noise(1_000_000)).unwrap();
    let result =
        run_in(pool().timeout(Duration::from_secs(10)), evil.first(), Get::new("file", evil.path("out")).unwrap());
    assert!(!result.is_ok(), "{result:?}");
    assert_eq!(tree(&evil.path("out")), [], "no part stays under the file's name");
}

#[test]
fn a_directory_behind_a_link_of_the_same_name_stays_inside() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().as_os_str().as_encoded_bytes().to_vec();
    let evil = Ground::one(HostPlan::new().sftp_evil(SftpEvil::LinkThenDirectory(target)));
    fs::create_dir(evil.home().join("dir")).unwrap();
    let result = run(evil.first(), Get::new("dir", evil.path("out")).unwrap());
    assert!(tree(outside.path()).is_empty(), "{result:?}");
}

#[test]
fn a_file_shorter_than_it_claims_is_not_complete() {
    let ground = Ground::one(HostPlan::new().sftp_evil(SftpEvil::SizeLie(100)));
    fs::write(ground.home().join("file"), noise(1000)).unwrap();
    let result = run(ground.first(), Get::new("file", ground.path("out")).unwrap());
    assert_eq!(result.class(), Class::Failed);
    assert_eq!(result.error().unwrap().to_string(), "file ended after 1000 of 1100 bytes");
    assert_eq!(tree(&ground.path("out")), [], "no part stays under the file's name");
}

#[test]
fn faults_in_a_transfer_have_their_status() {
    let local = |ground: &Ground| {
        let path = ground.path("big");
        fs::write(&path, noise(3_000_000)).unwrap();
        path
    };
    let ground = Ground::one(HostPlan::new().fault(Fault::CutOutput { after_bytes: 500_000 }));
    let result = run(ground.first(), Put::new(&[local(&ground)], "x").unwrap());
    assert_eq!(result.class(), Class::Lost, "{result:?}");
    assert_eq!(result.error().unwrap().phase(), Some(Phase::Transfer));

    let ground = Ground::one(HostPlan::new().fault(Fault::StallSftp { after_requests: 5 }));
    let pool = pool().timeout(Duration::from_millis(800));
    let result = run_in(pool, ground.first(), Put::new(&[local(&ground)], "x").unwrap());
    assert_eq!(result.class(), Class::TimedOut, "{result:?}");
    assert_eq!(result.error().unwrap().to_string(), "transfer timed out after 800ms");

    let ground = Ground::one(HostPlan::new().fault(Fault::DiskFull { after_bytes: 500_000 }));
    let result = run(ground.first(), Put::new(&[local(&ground)], "x").unwrap());
    assert_eq!(result.class(), Class::Failed, "{result:?}");
    assert_eq!(result.error().unwrap().chain(), "cannot write x: no space left on the host");
    assert_eq!(tree(ground.home()), [], "the part was removed");

    let ground = Ground::one(HostPlan::new().fault(Fault::RefuseSubsystem));
    let result = run(ground.first(), Put::new(&[local(&ground)], "x").unwrap());
    assert_eq!(result.class(), Class::Failed, "{result:?}");
    assert_eq!(result.error().unwrap().to_string(), "the server refused to open SFTP");
}

#[test]
fn an_sftp_server_that_ends_is_not_a_lost_connection() {
    let path = |ground: &Ground| {
        fs::write(ground.path("big"), noise(300_000)).unwrap();
        ground.path("big")
    };
    for (fault, said) in [
        (Fault::NoExitStatus, "the SFTP server ended amid the transfer: no exit status"),
        (Fault::ExitSignal { name: "SEGV".into() }, "the SFTP server ended amid the transfer: signal SEGV"),
    ] {
        let ground = Ground::one(HostPlan::new().fault(fault));
        let result = run(ground.first(), Put::new(&[path(&ground)], "x").unwrap());
        assert_eq!(result.class(), Class::Failed, "{result:?}");
        assert_eq!(result.error().unwrap().to_string(), said);
    }
}

#[test]
fn files_after_a_command_count_only_their_own_bytes() {
    let ground = Ground::one(HostPlan::new());
    fs::write(ground.home().join("file"), noise(400_000)).unwrap();
    let get = Get::new("file", ground.path("out")).unwrap();
    let op = fleet::op::from_fn("both", move |session, job| {
        let mut bytes = 0;
        job.exec(session, "head -c 3000000 /dev/zero", &mut |_, chunk| {
            bytes += chunk.len();
            Ok(())
        })?;
        fleet::Operation::run(&get, session, job).map(|got| (bytes, got.bytes))
    });
    let result = run(ground.first(), op);
    assert_eq!(result.value(), Some(&(3_000_000, 400_000)), "{result:?}");
}

#[test]
fn a_directory_of_many_small_files_is_no_flood() {
    let ground = Ground::one(HostPlan::new());
    fs::create_dir(ground.home().join("dir")).unwrap();
    for number in 0..400 {
        fs::write(ground.home().join(format!("dir/a-rather-long-name-for-a-small-file-{number}")), "x").unwrap();
    }
    let result = run(ground.first(), Get::new("dir", ground.path("out")).unwrap());
    assert_eq!(result.class(), Class::Ok, "{result:?}");
    let result = run(ground.first(), Put::new(&[ground.path("out/sim0001/dir")], "back").unwrap());
    assert_eq!(result.class(), Class::Ok, "{result:?}");
    assert_eq!(tree(&ground.home().join("back")).len(), 400);
}
