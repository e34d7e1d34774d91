//! Hosts that wrote the same, and the order of lines.

use fleet_sim::{Canned, Fault, HostPlan, Mode};

use crate::ground::Ground;

fn canned(name: &str, canned: Canned) -> HostPlan {
    HostPlan::new().name(name).mode(Mode::Canned(canned))
}

/// Twelve hosts: most wrote the same, some something else, and some cannot be reached.
fn twelve() -> Ground {
    let usual = "Linux 6.1\nuptime 3 days\nload 0.1\n";
    let mut hosts: Vec<HostPlan> = (1..=5).map(|n| canned(&format!("web{n:02}"), Canned::new(usual))).collect();
    hosts.push(canned("web06", Canned::new(usual.replace("6.1", "5.15"))));
    hosts.push(canned("web07", Canned::new(usual).stderr("disk /var is full\n", 1)));
    hosts.push(canned("web08", Canned::new(usual).exit(3)));
    hosts.push(canned("web09", Canned::new("")));
    hosts.push(canned("web10", Canned::new(b"caf\xe9\n")));
    hosts.extend([1, 2].map(|n| canned(&format!("db{n}"), Canned::new("")).fault(Fault::GarbageBanner)));
    Ground::start(hosts)
}

#[test]
fn hosts_that_wrote_the_same() {
    twelve()
        .fleet
        .run(&["exec", "-b", "--retries", "0", "x"])
        .run(&["exec", "-b", "-q", "--retries", "0", "x"])
        .run(&["exec", "--diff", "--retries", "0", "x"])
        .run(&["exec", "-b", "--color", "always", "-w", "web[05-08]", "x"])
        .run(&["exec", "--diff", "--color", "always", "-w", "web[04-06]", "x"])
        .run(&["exec", "-b", "-f", "1", "--rollout", "1,3", "-w", "web[01-04]", "x"])
        .run(&["exec", "-b", "-f", "1", "--fail-fast", "-w", "web08,web09", "x"])
        .golden("folds");
}

#[test]
fn lines_in_the_order_of_the_hosts() {
    // The first host writes last.
    let wait = "case $HOME in *a) while [ ! -e go ]; do sleep 0.01; done; rm go;; *) touch ../a/go;; esac;";
    let command = format!("{wait} echo one; echo two >&2; printf three");
    Ground::named(&["a", "b"])
        .fleet
        .run(&["exec", "--ordered", &command])
        .run(&["exec", "--ordered", "-N", &command])
        .golden("ordered");
}

#[test]
fn what_is_for_text_alone() {
    crate::Fleet::new()
        .run(&["exec", "-b", "--format", "json", "x"])
        .run(&["exec", "--diff", "--format", "csv", "x"])
        .run(&["exec", "--ordered", "--format", "jsonl", "x"])
        .run(&["exec", "-b", "--ordered", "x"])
        .run(&["exec", "--diff", "-N", "x"])
        .run(&["put", "-b", "a", "b"])
        .run(&["exec", "-b", "--select-regex", "(?<a>x)", "x"])
        .run(&["exec", "--diff", "--select-regex", "(?<a>x)", "x"])
        .run(&["exec", "--ordered", "--select-regex", "(?<a>x)", "x"])
        .env("FLEET_FOLD", "1")
        .run(&["exec", "-w", "127.0.0.1", "-l", "ops", "--dry-run", "--ordered", "x"])
        .run(&["exec", "-w", "127.0.0.1", "-l", "ops", "--dry-run", "--format", "csv", "x"])
        .run(&["exec", "-w", "127.0.0.1", "-l", "ops", "--dry-run", "--select-regex", "(?<a>x)", "x"])
        .env("FLEET_FORMAT", "json")
        .run(&["exec", "-w", "127.0.0.1", "-l", "ops", "--dry-run", "x"])
        .golden("folds_refused");
}
