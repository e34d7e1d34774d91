//! Against simulated hosts: results, logins, host keys, faults, files, scale.

mod exec;
mod faults;
mod files;
mod host_keys;
mod logins;
mod scale;
