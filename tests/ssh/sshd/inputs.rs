//! Standard input of commands on OpenSSH's sshd.

use std::sync::Arc;

use super::Ground;
use crate::inputs as common;

/// Names one server several times.
fn several(ground: &Ground) -> Vec<Arc<fleet::Host>> {
    let host = |number| {
        let mut host = ground.host();
        host.name = format!("local{number}");
        Arc::new(host)
    };
    (0..4).map(host).collect()
}

#[test]
fn every_host_gets_every_byte_once_read() {
    common::every_host_gets_every_byte_once_read(&several(&Ground::start()));
}

#[test]
fn bytes_come_back_as_they_were() {
    common::bytes_come_back_as_they_were(&Ground::start().host());
}

#[test]
fn a_command_need_not_read_it() {
    common::a_command_need_not_read_it(&Ground::start().host());
}

#[test]
fn what_comes_later_is_given_at_once() {
    common::what_comes_later_is_given_at_once(&Ground::start().host());
}

#[test]
fn a_slow_host_delays_no_other() {
    common::a_slow_host_delays_no_other(&several(&Ground::start()));
}

#[test]
fn a_source_that_fails_ends_the_command_and_says_so() {
    common::a_source_that_fails_ends_the_command_and_says_so(&Ground::start().host());
}

#[test]
fn taking_input_is_no_silence() {
    common::taking_input_is_no_silence(&Ground::start().host());
}

#[test]
fn a_script_has_it_for_itself() {
    common::a_script_has_it_for_itself(&Ground::start().host());
}
