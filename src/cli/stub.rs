//! Stands for `fleet::op::{Put, Get}` until they exist.

use std::path::PathBuf;

use fleet::{Error, ErrorKind, Job, Operation, Result, Session};

pub(crate) struct Put;
pub(crate) struct Get;

impl Put {
    pub(crate) fn new(locals: &[PathBuf], _remote: Vec<u8>) -> Result<Self> {
        for local in locals {
            let cannot =
                |error| Error::new(ErrorKind::Usage, format!("cannot read {}", local.display())).caused_by(error);
            std::fs::metadata(local).map_err(cannot)?;
        }
        Ok(Self)
    }
}

impl Get {
    pub(crate) fn new(_remote: Vec<u8>, _dir: PathBuf) -> Result<Self> {
        Ok(Self)
    }
}

impl Operation for Put {
    type Output = ();

    fn name(&self) -> &str {
        "put"
    }

    fn run(&self, _: &mut dyn Session, _: &Job<'_>) -> Result<()> {
        Err(Error::new(ErrorKind::Internal, "transfers are not there yet"))
    }
}

impl Operation for Get {
    type Output = ();

    fn name(&self) -> &str {
        "get"
    }

    fn run(&self, _: &mut dyn Session, _: &Job<'_>) -> Result<()> {
        Err(Error::new(ErrorKind::Internal, "transfers are not there yet"))
    }
}
