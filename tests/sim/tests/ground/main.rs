//! Tests of the simulator itself, with the OpenSSH client and a russh client.

#[cfg(test)]
mod common;
#[cfg(test)]
mod exec;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod scale;
#[cfg(test)]
mod sftp;
