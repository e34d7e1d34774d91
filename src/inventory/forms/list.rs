//! Plain lists: one or more names, hostsets or expressions a line.

use std::path::Path;

use super::Form;
use crate::error::{Error, Result};
use crate::inventory::Inventory;
use crate::inventory::build::{Builder, usage};
use crate::inventory::list::uncommented;
use crate::inventory::select::NoNames;
use crate::inventory::term::Evaluator;

pub(super) struct List<'t> {
    text: &'t str,
    path: &'t Path,
}

impl<'t> List<'t> {
    pub(super) fn new(text: &'t str, path: &'t Path) -> Self {
        Self { text, path }
    }

    fn error(&self, index: usize, error: &Error) -> Error {
        Error::new(error.kind(), format!("{}:{}: {}", self.path.display(), index + 1, error.chain()))
    }
}

impl Form for List<'_> {
    fn fill(&self, builder: &mut Builder) -> Result<()> {
        // The names are what there is: nothing else is known.
        let nobody = Inventory::empty();
        let mut evaluator = Evaluator::new(&nobody, &NoNames);
        evaluator.no_groups = "a list of hosts has none";
        evaluator.read_from(self.path.parent().unwrap_or(Path::new("")));
        for (index, line) in self.text.lines().enumerate() {
            let line = uncommented(line);
            if is_name(line) {
                builder.host(line).map_err(|why| self.error(index, &usage(why)))?;
            } else if !line.is_empty() {
                for name in evaluator.names_of_line(line).map_err(|error| self.error(index, &error))? {
                    builder.host(&name).map_err(|why| self.error(index, &usage(why)))?;
                }
            }
        }
        Ok(())
    }
}

/// Tells whether a line is a single name, as most are.
fn is_name(line: &str) -> bool {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    line.starts_with(char::is_alphanumeric) && line.chars().all(is_plain)
}
