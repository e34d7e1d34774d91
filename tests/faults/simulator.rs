//! The faults that simulated hosts have: all at once, one run for each operation.

use std::sync::Arc;
use std::time::Duration;

use fleet::{EventKind, Host};
use fleet_sim::{Fault as SimFault, HostPlan, Mode};

use crate::ground::Ground;
use crate::matrix::{Doing, Fault, Place};
use crate::run::{FILE, Plan, content, healthy, limited, patient, turn};

/// How long each step may take on a faulty host: much longer than all healthy hosts need together.
const LIMIT: Duration = Duration::from_secs(20);

/// How much the host whose connection is cut may write before.
const BEFORE_CUT: usize = 64 * 1024;

/// What hosts with a real shell do, by their `FAULT`. What they have in the background must end, too.
const COMMAND: &str = "\
case $FAULT in
StallOutput) printf 'a line\\nhalf of the'; sleep 1000 & sleep 1000 | cat ;;
CutOutput) echo begun; sleep 1000 & sleep 1; exec yes ;;
ExitSignal) kill -KILL $$ ;;
EndlessOutput) sleep 1000 & exec yes ;;
*) echo ok ;;
esac";

fn plan(fault: Fault, doing: Doing) -> HostPlan {
    let canned = |fault| HostPlan::new().mode(Mode::canned("ok\n")).fault(fault);
    let real = || HostPlan::new().env("FAULT", format!("{fault:?}"));
    match (fault, doing) {
        (Fault::Silent, _) => canned(SimFault::Silent),
        (Fault::GarbageBanner, _) => canned(SimFault::GarbageBanner),
        (Fault::EndlessBanner, _) => canned(SimFault::EndlessBanner { newline: false }),
        (Fault::StallKeyExchange, _) => canned(SimFault::StallKex { kexinit: true }),
        (Fault::StallLogin, _) => canned(SimFault::StallLogin),
        (Fault::StallChannel, _) => canned(SimFault::StallChannel),
        (Fault::RefusedChannel, _) => canned(SimFault::RefuseChannel),
        (Fault::StallOutput | Fault::CutOutput | Fault::ExitSignal | Fault::EndlessOutput, Doing::Exec) => real(),
        (Fault::NoExitStatus, Doing::Exec) => real().fault(SimFault::NoExitStatus),
        (Fault::StallOutput, _) => canned(SimFault::StallOutput),
        (Fault::CutOutput, _) => canned(SimFault::CutOutput { after_bytes: 100_000 }),
        (Fault::NoExitStatus, _) => canned(SimFault::NoExitStatus),
        (Fault::ExitSignal, _) => canned(SimFault::ExitSignal { name: "SEGV".into() }),
        (Fault::EndlessOutput, _) => canned(SimFault::EndlessOutput),
        (Fault::Frozen | Fault::CutOff, _) => unreachable!("these are containers'"),
    }
}

fn check(doing: Doing) {
    let _turn = turn();
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join(FILE), content()).unwrap();
    let faults: Vec<Fault> = Fault::all_of(Place::Simulator).collect();
    let mut plans = healthy(doing, home.path());
    let count = plans.len();
    plans.extend(faults.iter().map(|fault| match doing {
        Doing::Get => plan(*fault, doing).home(home.path()),
        Doing::Exec | Doing::Put => plan(*fault, doing),
    }));
    let ground = Ground::start(plans);
    std::fs::write(ground.path(FILE), content()).unwrap();
    let (well, ill) = ground.sim.hosts().split_at(count);
    let faulty: Vec<(Fault, Arc<Host>)> =
        faults.iter().zip(ill).map(|(fault, host)| (*fault, limited(ground.host(host), LIMIT))).collect();
    let run = Plan {
        doing,
        command: COMMAND,
        ground: &ground,
        healthy: well.iter().map(|host| patient(ground.host(host))).collect(),
        faulty,
        limit: LIMIT,
    };
    let cut = &ill[faults.iter().position(|fault| *fault == Fault::CutOutput).unwrap()];
    let mut bytes_before_cut = 0;
    run.run(|event| match &event.kind {
        EventKind::Output { host, bytes, .. } if host.name == cut.name() => {
            bytes_before_cut += bytes.len();
            if bytes_before_cut > BEFORE_CUT {
                cut.disconnect_all();
            }
        }
        EventKind::Finished(report) if report.facts.killed.is_some() => {
            assert_eq!(report.facts.killed, Some("killed"), "{report:?}");
        }
        _ => {}
    });
}

#[test]
fn every_fault_under_exec() {
    check(Doing::Exec);
}

#[test]
fn every_fault_under_put() {
    check(Doing::Put);
}

#[test]
fn every_fault_under_get() {
    check(Doing::Get);
}
