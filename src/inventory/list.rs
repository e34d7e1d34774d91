//! Lists of hosts: the lines of a file or of standard input, as terms of a selection.

use std::path::Path;
use std::sync::Arc;

use super::expr;
use super::secret::expand_home;
use super::select::evaluate;
use super::term::{Choice, Context, Evaluator, usage};
use crate::error::{Error, ErrorKind, Result};

impl Evaluator<'_> {
    /// Evaluates `@file:PATH`.
    pub(super) fn file(&self, path: &str, context: Context<'_>) -> Result<Choice> {
        if path.is_empty() {
            return Err(context.wrong("expected a path: a list is written @file:PATH"));
        }
        let path = self.directory.borrow().join(expand_home(path));
        let shown = path.display();
        let text = std::fs::read(&path)
            .map_err(|error| Error::new(ErrorKind::Usage, format!("cannot read {shown}")).caused_by(error))?;
        let text = String::from_utf8(text).map_err(|_| usage(format!("{shown} is not UTF-8")))?;
        let place = path.canonicalize().unwrap_or_else(|_| path.clone());
        if self.open.borrow().contains(&place) {
            return Err(usage(format!("{shown} names itself")));
        }
        self.open.borrow_mut().push(place);
        let found = self.lines(&text, &path, context);
        self.open.borrow_mut().pop();
        found
    }

    /// Evaluates `-`.
    pub(super) fn stdin(&self, context: Context<'_>) -> Result<Choice> {
        match self.names.stdin() {
            Some(text) => self.lines(&text?, Path::new("standard input"), context),
            None => Err(context.wrong("standard input is not read here")),
        }
    }

    fn lines(&self, text: &str, path: &Path, context: Context<'_>) -> Result<Choice> {
        let mut choice = Choice::default();
        for (index, line) in text.lines().enumerate() {
            let line = uncommented(line);
            if !line.is_empty() {
                self.line(line, context.excluding, &mut choice).map_err(|error| {
                    let what = format!("{}:{}: {}", path.display(), index + 1, error.chain());
                    Error::new(error.kind(), what)
                })?;
            }
        }
        match choice.is_empty() && !context.excluding {
            true => Err(usage(format!("{} names no hosts", path.display()))),
            false => Ok(choice),
        }
    }

    /// Returns the names that a line stands for, without an inventory.
    pub(super) fn names_of_line(&self, line: &str) -> Result<Vec<Arc<str>>> {
        let mut choice = Choice::default();
        self.line(line, false, &mut choice)?;
        Ok(choice.addresses.list.into_iter().map(|address| address.name).collect())
    }

    fn line(&self, line: &str, excluding: bool, choice: &mut Choice) -> Result<()> {
        // Most lines are the name of a host: a long list of them takes no set for each.
        if let Some(id) = self.inventory.host_ids.get(line) {
            choice.hosts.insert(*id);
            return Ok(());
        }
        let expr = expr::parse_line(line, &|name| self.is_name(name)).map_err(|syntax| expr::error(line, &syntax))?;
        choice.unite(evaluate(&expr, line, self, excluding)?)
    }
}

/// Returns a line without its comment, which begins with a `#` at the start or after a space.
pub(super) fn uncommented(line: &str) -> &str {
    let is_comment =
        |at: usize| line.get(..at).is_some_and(|before| before.is_empty() || before.ends_with([' ', '\t']));
    let end = line.match_indices('#').map(|(at, _)| at).find(|at| is_comment(*at));
    line.get(..end.unwrap_or(line.len())).unwrap_or(line).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_end_a_line() {
        for (line, left) in
            [("a # b", "a"), ("#a", ""), (" a#b ", "a#b"), ("\t# x # y", ""), ("ä\t#b", "ä"), ("a##b #c", "a##b")]
        {
            assert_eq!(uncommented(line), left, "{line:?}");
        }
    }
}
