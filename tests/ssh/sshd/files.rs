//! Transfers that end before their time.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fleet::op::{Get, Put};
use fleet::transport::OpenMode;
use fleet::{Budget, Class, ErrorKind, Event, EventKind, Operation, Outputs, RunControl, Stop, event::StopReason, op};

use super::Ground;
use crate::ground::{pool, run};

/// Makes a file that takes longer than the stop.
fn long_file(path: &Path) {
    File::create(path).unwrap().set_len(4 << 30).unwrap();
}

fn names(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Runs an operation and stops the run at the first bytes of it.
fn stopped_amid(ground: &Ground, op: impl Operation) -> Option<Class> {
    let control = RunControl::new();
    let stopper = control.clone();
    let mut stop = move |event: &Event| {
        if let EventKind::Transfer { .. } = &event.kind {
            stopper.stop(Stop::Abort, StopReason::Interrupt);
        }
        Ok(())
    };
    let mut class = None;
    let outputs = Outputs::new().sink(&mut stop);
    pool().build().run_with(&[Arc::new(ground.host())], op, &control, outputs, |one| class = Some(one.class()));
    class
}

#[test]
fn a_stop_ends_a_transfer_however_fast_and_nothing_of_it_stays() {
    let ground = Ground::start();
    let [from, to] = ["from", "to"].map(|name| ground.dir.path().join(name));
    fs::create_dir(&to).unwrap();
    long_file(&from);
    for _ in 0..3 {
        let put = Put::new(std::slice::from_ref(&from), to.join("sent").as_os_str().as_bytes()).unwrap();
        assert_eq!(stopped_amid(&ground, put), Some(Class::Cancelled));
        assert_eq!(names(&to), [""; 0]);
        let get = Get::new(from.as_os_str().as_bytes(), ground.dir.path().join("got")).unwrap();
        assert_eq!(stopped_amid(&ground, get), Some(Class::Cancelled));
        assert_eq!(names(&ground.dir.path().join("got/local")), [""; 0]);
    }
}

#[test]
fn a_target_that_cannot_be_replaced_is_named_alike_on_every_host() {
    let ground = Ground::start();
    let dir = ground.dir.path();
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    for directory in ["tree/inner", "to/file", "elsewhere"] {
        fs::create_dir_all(dir.join(directory)).unwrap();
    }
    fs::write(dir.join("file"), "x").unwrap();
    std::os::unix::fs::symlink(dir.join("elsewhere"), dir.join("to/link")).unwrap();
    fs::write(dir.join("link"), "x").unwrap();
    let failure = |local: &str, to: &str| {
        let result = run(ground.host(), Put::new(&[local.into()], path(to)).unwrap());
        assert_eq!(result.class(), Class::Failed);
        result.error().unwrap().chain()
    };
    assert_eq!(failure(&path("file"), "to"), format!("{} is a directory", path("to/file")));
    assert_eq!(failure(&path("link"), "to"), format!("{} is a directory", path("to/link")));
    assert_eq!(failure(&path("tree"), "file"), format!("cannot write into {}: not a directory", path("file")));
    assert_eq!(names(&dir.join("elsewhere")), [""; 0]);
    assert_eq!(fs::read(dir.join("file")).unwrap(), b"x");
}

#[test]
fn what_was_written_in_part_is_closed_and_removed() {
    let ground = Ground::start();
    let path = ground.dir.path().join("part");
    let remote = path.as_os_str().as_bytes().to_vec();
    let op = op::from_fn("write", move |session, job| {
        // As much as no window of a channel takes at once.
        let bytes = vec![7; 16 << 20];
        let budget = Budget::grace(Duration::from_secs(60));
        let files = session.files(job.budget)?;
        let file = files.open(&remote, OpenMode::CreateNew(0o600), &budget)?;
        let written = files.write(file, &bytes, &budget)?;
        assert!(written < bytes.len(), "{written} bytes at once");
        files.close(file, &budget)?;
        files.remove(&remote, &budget)?;
        assert_eq!(files.stat(&remote, false, &budget)?, None);
        assert_eq!(files.close(file, &budget).unwrap_err().kind(), ErrorKind::Protocol);
        Ok(())
    });
    let result = run(ground.host(), op);
    assert!(result.is_ok(), "{result:?}");
    assert!(!path.exists());
}
