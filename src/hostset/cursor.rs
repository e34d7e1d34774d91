//! A place in a line of text, counted in characters as people count columns.

/// What is wrong with a written expression, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Syntax {
    /// The column, from 1.
    pub(crate) column: usize,
    /// What is wrong there, such as `expected a number`.
    pub(crate) message: String,
}

impl Syntax {
    pub(crate) fn new(column: usize, message: impl Into<String>) -> Self {
        Self { column, message: message.into() }
    }
}

/// What is still to be read of a line.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'t> {
    rest: &'t str,
    column: usize,
}

impl<'t> Cursor<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self { rest: text, column: 1 }
    }

    /// Returns the column of the next character, from 1.
    pub(crate) fn column(&self) -> usize {
        self.column
    }

    pub(crate) fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    pub(crate) fn bump(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next()?;
        self.rest = chars.as_str();
        self.column += 1;
        Some(next)
    }

    /// Takes the next character if it is the one given.
    pub(crate) fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.bump();
        }
        found
    }

    /// Takes characters as long as they are wanted.
    pub(crate) fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'t str {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.column += taken.chars().count();
        taken
    }

    pub(crate) fn skip_space(&mut self) {
        self.take_while(char::is_whitespace);
    }

    /// Tells whether an IPv6 address in brackets begins here: `[fe80::1]`, but not `[1-3]`.
    pub(crate) fn at_ipv6(&self) -> bool {
        let Some(inner) = self.rest.strip_prefix('[') else { return false };
        let end = inner.find(['[', ']']).unwrap_or(inner.len());
        inner.split_at(end).0.matches(':').count() >= 2
    }
}
