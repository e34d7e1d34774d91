//! Standard input of commands on simulated hosts.

use fleet_sim::HostPlan;

use crate::ground::Ground;
use crate::inputs as common;

fn one() -> Ground {
    Ground::one(HostPlan::new())
}

fn several() -> Ground {
    Ground::start((0..4).map(|_| HostPlan::new()).collect())
}

#[test]
fn every_host_gets_every_byte_once_read() {
    common::every_host_gets_every_byte_once_read(&several().hosts());
}

#[test]
fn bytes_come_back_as_they_were() {
    common::bytes_come_back_as_they_were(&one().first());
}

#[test]
fn a_command_need_not_read_it() {
    common::a_command_need_not_read_it(&one().first());
}

#[test]
fn what_comes_later_is_given_at_once() {
    common::what_comes_later_is_given_at_once(&one().first());
}

#[test]
fn a_slow_host_delays_no_other() {
    common::a_slow_host_delays_no_other(&several().hosts());
}

#[test]
fn a_source_that_fails_ends_the_command_and_says_so() {
    let ground = one();
    common::a_source_that_fails_ends_the_command_and_says_so(&ground.first());
    ground.assert_no_process_is_left();
}

#[test]
fn taking_input_is_no_silence() {
    common::taking_input_is_no_silence(&one().first());
}

#[test]
fn a_script_has_it_for_itself() {
    common::a_script_has_it_for_itself(&one().first());
}
