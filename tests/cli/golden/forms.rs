//! Every form for programs on the same hosts: some do well, some do not, one writes what is no text.

use fleet_sim::{Canned, Fault, HostPlan, Mode};

use crate::ground::Ground;

fn canned(name: &str, canned: Canned) -> HostPlan {
    HostPlan::new().name(name).mode(Mode::Canned(canned))
}

/// The hosts that every form is shown with.
fn hosts() -> Ground {
    let table = "Filesystem      Size  Used Avail Use% Mounted on\n\
                 /dev/sda1        20G   12G  7.0G  63% /\n\
                 /dev/sdb1       100G   99G  512M 100% /srv, \"data\"\n";
    Ground::start(vec![
        canned("web01", Canned::new(table)),
        canned("db1", Canned::new(b"\xff\xfe").stderr("careful\n\ttabs, \"quotes\"\n", 1).exit(3)),
        canned("mute", Canned::new("")),
        HostPlan::new().name("dead").fault(Fault::GarbageBanner),
    ])
}

#[test]
fn exec_in_every_form() {
    let Ground { mut fleet, sim: _sim } = hosts();
    for format in ["text", "json", "jsonl", "csv"] {
        fleet = fleet.run(&["exec", "-f", "1", "--retries", "0", "--format", format, "df"]);
    }
    fleet.golden("forms_exec");
}

#[test]
fn transfers_and_pings_in_every_form() {
    let Ground { fleet, sim: _sim } = Ground::named(&["web01"]);
    let mut fleet = fleet.file("motd", "welcome\n").file("add.sh", "echo $(($1 + $2)); echo of $# >&2\n");
    for format in ["jsonl", "csv"] {
        fleet = fleet
            .run(&["ping", "--format", format])
            .run(&["put", "--format", format, "motd", "motd"])
            .run(&["get", "--format", format, "motd", "fetched"])
            .run(&["get", "--format", format, "nothing", "fetched"])
            .run(&["script", "--format", format, "add.sh", "3", "4"]);
    }
    fleet.golden("forms_verbs");
}

#[test]
fn records_in_every_form() {
    let df = r"^(?<fs>/\S+)\s+(?<size>\S+) .* (?<use>\d+)% (?<on>.*)$";
    let Ground { mut fleet, sim } = hosts();
    for format in ["text", "json", "jsonl", "csv"] {
        fleet = fleet.run(&["exec", "-f", "1", "--retries", "0", "--format", format, "--select-regex", df, "df"]);
    }
    fleet = fleet
        .run(&["exec", "-w", "mute", "-q", "--select-regex", df, "df"])
        .run(&["exec", "-w", "web01", "--format", "csv", "--select-regex", r"(?s)(?<all>/.*)\n|(?<none>xyz)", "df"])
        .env("FLEET_SELECT_REGEX", "Use%.*\\n(?<first>\\S+)")
        .run(&["exec", "-w", "web01", "df"]);
    fleet.golden("forms_records");
    let connections = sim.stats().connections;
    Ground { fleet: super::fleet(), sim }
        .fleet
        .run(&["exec", "--select-regex", r"(\d+)%", "df"])
        .run(&["exec", "--select-regex", r"(?<use>\d+", "df"])
        .run(&["exec", "--select-regex", "(?<host>.*)", "df"])
        .run(&["exec", "-N", "--select-regex", "(?<a>.*)", "df"])
        .run(&["put", "--select-regex", "(?<a>.*)", "hosts.toml", "there"])
        .golden("forms_wrong_records");
    assert!(connections > 0);
}
