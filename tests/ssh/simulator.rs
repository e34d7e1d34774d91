//! Against simulated hosts: results, logins, host keys, faults, files, scale, scripts.

mod exec;
mod faults;
mod files;
mod host_keys;
mod inputs;
mod logins;
mod scale;
mod scripts;
mod sudo;
