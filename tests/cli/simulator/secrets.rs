//! Planted secrets, of every source and use, are in no output of any form, in no process and in no file.

use std::path::Path;
use std::time::{Duration, Instant};

use fleet_sim::{HostPlan, Logins};

use crate::ground::Ground;
use crate::planted::{Planted, children};

/// Where each password comes from; the last is another one than the server's.
const SOURCES: [&str; 5] = ["env", "file", "cmd", "literal", "wrong"];

const NAMES: [&str; 11] =
    ["env", "file", "cmd", "literal", "wrong", "answer", "passphrase", "wrongphrase", "become", "sudo", "control"];

/// The files that secrets are planted in.
const PLANTED_IN: [&str; 7] =
    ["hosts.toml", "file-secret", "cmd-secret", "passphrase", "wrong-passphrase", "become-secret", "wait.sh"];

struct Place {
    ground: Ground,
    planted: Planted,
}

/// Hosts that each take one of the secrets, one that takes none, five for the breaker, and one with a locked key.
fn place() -> Place {
    let planted = Planted::new(&NAMES);
    let taken =
        |name: &str| Logins::password("ops", if name == "wrong" { "something else" } else { planted.get(name) });
    let many = (1..=5).map(|n| HostPlan::new().name(format!("many{n}")).logins(Logins::password("ops", "other")));
    let plans = SOURCES.iter().map(|name| HostPlan::new().name(*name).logins(taken(name)));
    let locked = HostPlan::new().name("locked");
    let Ground { fleet, sim } = Ground::start(plans.chain(many).chain([locked]).collect());
    let mut keygen = std::process::Command::new("ssh-keygen");
    keygen.args(["-q", "-p", "-N", planted.get("passphrase"), "-f"]).arg(fleet.dir().join("key"));
    assert!(keygen.output().unwrap().status.success());
    let wait = "#!/bin/sh\n: >begun; while [ ! -e go ]; do sleep 0.05; done; cat cmd-secret\n";
    let literal = |name: &str| format!("identity = []\npassword = {{ literal = \"{}\" }}", planted.get(name));
    let mut fleet = fleet
        .secret("file-secret", planted.get("file"))
        .secret("cmd-secret", planted.get("cmd"))
        .secret("passphrase", planted.get("passphrase"))
        .secret("wrong-passphrase", planted.get("wrongphrase"))
        .secret("become-secret", planted.get("become"))
        .file("wait.sh", wait)
        .file("go", "")
        .configure("env", "identity = []\npassword = \"env:PLANTED\"\nbecome_password = \"file:become-secret\"")
        .configure(
            "file",
            &format!(
                "identity = []\npassword = \"file:file-secret\"\nanswers = {{ code = {{ literal = \"{}\" }} }}",
                planted.get("answer")
            ),
        )
        .configure("cmd", "identity = []\npassword = \"cmd:sh wait.sh\"")
        .configure("literal", &literal("literal"))
        .configure("wrong", &literal("wrong"))
        .configure("locked", "passphrase = \"file:passphrase\"")
        .env("PLANTED", planted.get("env"));
    for n in 1..=5 {
        fleet = fleet.configure(&format!("many{n}"), &literal("wrong"));
    }
    Place { ground: Ground { fleet, sim }, planted }
}

#[test]
fn no_output_of_any_form_shows_a_secret() {
    let Place { ground, planted } = place();
    let control = format!("echo {}", planted.get("control"));
    let good = "env,file,cmd,literal,locked";
    std::fs::copy(ground.fleet.dir().join("key.pub"), ground.fleet.dir().join("id.pub")).unwrap();
    let runs: [(&[&str], i32, &[&str]); 12] = [
        // What hosts write is shown: so whatever is planted would be found.
        (&["exec", "-w", good, &control], 0, &["control"]),
        (&["exec", "-w", good, "--dry-run", &control], 0, &["control"]),
        (&["exec", "-w", good, "exit 3"], 1, &[]),
        (&["ping", "-w", good], 0, &[]),
        (&["ping", "-w", good, "--dry-run"], 0, &[]),
        (&["put", "-w", good, "go", "there"], 0, &[]),
        (&["copy-id", "-w", good, "--key", "id.pub", "--no-proof"], 0, &[]),
        // A refused login, and the breaker.
        (&["ping", "-w", "wrong"], 3, &[]),
        (&["ping", "-f", "1", "-w", "many[1-5]"], 3, &[]),
        // A password from a flag, where nothing takes it.
        (&["ping", "-w", "wrong", "--password-from", "env:PLANTED"], 3, &[]),
        (&["ping", "-w", "wrong", "--password-from", "file:file-secret", "-t", "5s"], 3, &[]),
        (&["get", "-w", "env,wrong", "/etc/hostname", "out"], 3, &[]),
    ];
    for (args, code, expected) in runs {
        for form in [&[][..], &["-q"], &["-v"], &["-vv"], &["--format", "json"], &["--format", "json", "-vv"]] {
            let (verb, rest) = args.split_first().unwrap();
            let output = ground.fleet.output(&[&[*verb], form, rest].concat());
            let said = [&output.stdout[..], &output.stderr].concat();
            let text = String::from_utf8_lossy(&said);
            assert_eq!(output.status.code(), Some(code), "{args:?} {form:?}: {text}");
            assert_eq!(planted.found_in(&said), expected, "{args:?} {form:?}: {text}");
        }
    }
    let listed: [&[&str]; 6] = [
        &["hosts", "-a", "-v"],
        &["hosts", "-a", "--format", "json"],
        &["hosts", "--explain", "env,file,cmd,literal,locked,wrong"],
        &["hosts", "-a", "--fold"],
        &["hosts", "-i", "hosts.toml", "-w", "nobody"],
        &["ping", "-w", "env", "--password-from", planted.get("control")],
    ];
    for args in listed {
        let output = ground.fleet.output(args);
        let said = [output.stdout, output.stderr].concat();
        assert!(!said.is_empty(), "{args:?}");
        assert_eq!(planted.found_in(&said), [""; 0], "{args:?}: {}", String::from_utf8_lossy(&said));
    }
    // A wrong passphrase, and inventories that cannot be read at the very line of a secret.
    let Ground { fleet, sim: _sim } = ground;
    let good = std::fs::read_to_string(fleet.dir().join("hosts.toml")).unwrap();
    let literal = format!("{{ literal = \"{}\" }}", planted.get("literal"));
    let broken = [
        ("\"file:passphrase\"", "\"file:wrong-passphrase\"".to_owned()),
        (&literal, format!("{{ litteral = \"{}\" }}", planted.get("literal"))),
        (&literal, format!("\"{}\"", planted.get("literal"))),
        (&literal, format!("{{ literal = \"{}\" ", planted.get("literal"))),
        (&literal, format!("[\"{}\"]", planted.get("literal"))),
    ];
    let mut leaks = Vec::new();
    for (from, to) in broken {
        assert!(good.contains(from));
        std::fs::write(fleet.dir().join("hosts.toml"), good.replacen(from, &to, 1)).unwrap();
        let output = fleet.output(&["ping", "-w", "locked,literal", "-vv"]);
        let said = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&said).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        if !planted.found_in(&said).is_empty() {
            leaks.push(text);
        }
    }
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
    assert!(planted.found_below(fleet.dir(), &PLANTED_IN[1..]).contains(&"literal"), "what is planted is found");
    assert_eq!(planted.found_below(fleet.dir(), &PLANTED_IN), [""; 0]);
}

/// Waits for a file.
fn wait_for(path: &Path) {
    let since = Instant::now();
    while !path.exists() {
        assert!(since.elapsed() < Duration::from_secs(20), "{} does not come", path.display());
        std::thread::yield_now();
    }
}

/// Hosts whose sudo takes one of the secrets, which the inventory gives to one and gives the other wrongly.
fn place_with_sudo(dir: &Path) -> Place {
    let planted = Planted::new(&NAMES);
    let plan = |name: &str| {
        let plan = HostPlan::new().name(name).env("PATH", crate::sudo::install(dir)).env("FAKE_SUDO", "password");
        plan.env("FAKE_SUDO_PASSWORD_FILE", dir.join("password").to_str().unwrap())
    };
    std::fs::write(dir.join("password"), planted.get("sudo")).unwrap();
    let Ground { fleet, sim } = Ground::start(vec![plan("good"), plan("bad"), plan("none")]);
    let fleet = fleet
        .secret("sudo-secret", planted.get("sudo"))
        .secret("become-secret", planted.get("become"))
        .file("script.sh", "id; echo \"$0\"; cat; exit 3\n")
        .configure("good", "become = \"sudo\"\nbecome_password = \"file:sudo-secret\"")
        .configure(
            "bad",
            &format!("become = \"sudo\"\nbecome_password = {{ literal = \"{}\" }}", planted.get("become")),
        )
        .configure("none", "become = \"sudo\"");
    Place { ground: Ground { fleet, sim }, planted }
}

#[test]
fn no_output_and_no_process_shows_a_secret_of_sudo() {
    let dir = tempfile::tempdir().unwrap();
    let Place { ground, planted } = place_with_sudo(dir.path());
    let runs: [(&[&str], i32, &str); 6] = [
        (&["exec", "-w", "good", "echo ran; exit 3"], 1, "exit status 3"),
        (&["script", "-w", "good", "script.sh"], 1, "exit status 3"),
        (&["exec", "-w", "bad", "echo ran"], 1, "the sudo password was refused"),
        (&["exec", "-w", "none", "echo ran"], 1, "sudo wants a password, and none was given"),
        (
            &["exec", "-a", "--become-password-from", "file:become-secret", "echo ran"],
            1,
            "the sudo password was refused",
        ),
        (&["exec", "-w", "good", "-u", "300ms", "cat; sleep 100"], 124, "timed out"),
    ];
    for (args, code, reason) in runs {
        for form in [&[][..], &["-vv"], &["--format", "json", "-vv"]] {
            let (verb, rest) = args.split_first().unwrap();
            let output = ground.fleet.output(&[&[*verb], form, rest].concat());
            let said = [&output.stdout[..], &output.stderr].concat();
            let text = String::from_utf8_lossy(&said);
            assert_eq!(output.status.code(), Some(code), "{args:?} {form:?}: {text}");
            assert!(text.contains(reason), "{args:?} {form:?}: {text}");
            assert_eq!(planted.found_in(&said), [""; 0], "{args:?} {form:?}: {text}");
        }
    }
    let output = ground.fleet.output(&["hosts", "--explain", "good,bad"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("file:") && text.contains("literal") && text.contains("become_user"), "{text}");
    assert_eq!(planted.found_in(&output.stdout), [""; 0], "{text}");
    let mut run = ground.spawn(&["exec", "-w", "good", "echo begun; ps -eo args; head -c 1 >/dev/null; sleep 0.5"]);
    let line = crate::ground::line(&mut *run.stdout);
    assert!(line.starts_with("good: begun"), "{line}");
    assert_eq!(planted.found_in_processes(run.id()), [""; 0]);
    let output = run.finish();
    assert!(!output.stdout.is_empty());
    assert_eq!(planted.found_in(&output.stdout), [""; 0], "the host's own list of processes");
    assert_eq!(planted.found_below(ground.fleet.dir(), &["hosts.toml", "sudo-secret", "become-secret"]), [""; 0]);
}

#[test]
fn no_process_shows_a_secret_while_it_runs() {
    let Place { ground, planted } = place();
    let dir = ground.fleet.dir().to_owned();
    std::fs::remove_file(dir.join("go")).unwrap();
    let told = dir.join("told");
    let waits = format!("echo {}; while [ ! -e '{}' ]; do sleep 0.05; done", planted.get("control"), told.display());
    let mut run = ground.spawn(&["exec", "-vv", "-w", "env,file,cmd,literal,locked", &waits]);
    // While the command runs that prints a secret.
    wait_for(&dir.join("begun"));
    assert!(!children(run.id()).is_empty(), "the command is a child");
    // The command for the hosts stands among the arguments, and what the caller has in the environment is handed on to the
    // child, as to every child: so anything else would be found in either place.
    assert_eq!(planted.found_in_processes(run.id()), ["control", "env"]);
    std::fs::write(dir.join("go"), "").unwrap();
    // While the hosts run.
    let mut said = String::new();
    while said.matches("control").count() < 5 {
        said.push_str(&crate::ground::line(&mut *run.stdout));
        assert!(said.ends_with('\n'), "{said}");
    }
    assert_eq!(planted.found_in_processes(run.id()), ["control"]);
    std::fs::write(told, "").unwrap();
    let output = run.finish();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}
