//! Folding names into a hostset.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt::Write as _;

use super::natural::natural_cmp;
use super::parse::MAX_DIGITS;

/// Folds names into one hostset, in natural order and without duplicates: `db1,web[01-20]`.
///
/// Names that differ in several numbers fold in every one of them, as far as they form a grid (`rack[1-2]n[1-40]`).
/// Deterministic: the order of the input does not matter. What comes out [expands](super::expand()) to the same set, given
/// names that a hostset can hold: those with brackets are kept whole, so they must be IPv6 addresses; a comma or a space in a
/// name cannot be written.
///
/// # Examples
///
/// ```
/// assert_eq!(fleet::hostset::fold(["n2", "n10", "n1", "n3", "gw"]), "gw,n[1-3,10]");
/// ```
pub fn fold<I>(names: I) -> String
where
    I: IntoIterator,
    I::Item: AsRef<str>,
{
    let names: Vec<I::Item> = names.into_iter().collect();
    let mut sorted: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    sorted.sort_by(|a, b| natural_cmp(a, b));
    sorted.dedup();

    let mut shapes = Vec::new();
    let mut ids = HashMap::new();
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut key = String::new();
    let mut cells = Vec::new();
    for (rank, name) in sorted.iter().enumerate() {
        if !split(name, &mut key, &mut cells) {
            lines.push((rank, (*name).to_owned()));
            continue;
        }
        let id = match ids.get(&key) {
            Some(id) => *id,
            None => {
                shapes.push(Shape::new(&key, cells.len()));
                ids.insert(key.clone(), shapes.len() - 1);
                shapes.len() - 1
            }
        };
        if let Some(shape) = shapes.get_mut(id) {
            shape.rows.push(Row { cells: cells.clone(), rank });
        }
    }
    for shape in shapes {
        shape.fold_into(&mut lines);
    }
    lines.sort_by_key(|(rank, _)| *rank);
    let mut text = String::new();
    for (_, line) in &lines {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(line);
    }
    text
}

/// Stands for a number in a shape's key.
const HOLE: char = '\0';

/// One place of a name where a number stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cell {
    /// A value and its digits.
    Number(u64, usize),
    /// Several of them, folded: an index into the texts of the shape.
    Folded(usize),
}

#[derive(Debug)]
struct Row {
    cells: Vec<Cell>,
    /// The place of the first of its names in natural order.
    rank: usize,
}

/// The names that differ in their numbers only.
#[derive(Debug)]
struct Shape {
    key: String,
    holes: usize,
    rows: Vec<Row>,
    texts: Vec<String>,
    ids: HashMap<String, usize>,
}

impl Shape {
    fn new(key: &str, holes: usize) -> Self {
        Self { key: key.to_owned(), holes, rows: Vec::new(), texts: Vec::new(), ids: HashMap::new() }
    }

    fn fold_into(mut self, lines: &mut Vec<(usize, String)>) {
        for hole in (0..self.holes).rev() {
            self.fold_hole(hole);
        }
        for row in &self.rows {
            lines.push((row.rank, self.text(row)));
        }
    }

    /// Merges the rows that differ in this place only.
    fn fold_hole(&mut self, hole: usize) {
        let mut rows = std::mem::take(&mut self.rows);
        rows.sort_by(|a, b| cmp_others(a, b, hole).then_with(|| a.cells.get(hole).cmp(&b.cells.get(hole))));
        let mut merged: Vec<Row> = Vec::new();
        let mut numbers: Vec<(u64, usize)> = Vec::new();
        for row in rows {
            if let Some(last) = merged.last_mut() {
                if cmp_others(last, &row, hole) == Ordering::Equal {
                    numbers.extend(number(&row, hole));
                    last.rank = last.rank.min(row.rank);
                    continue;
                }
                self.close(last, hole, &numbers);
            }
            numbers.clear();
            numbers.extend(number(&row, hole));
            merged.push(row);
        }
        if let Some(last) = merged.last_mut() {
            self.close(last, hole, &numbers);
        }
        self.rows = merged;
    }

    /// Puts the numbers gathered into the row's cell.
    fn close(&mut self, row: &mut Row, hole: usize, numbers: &[(u64, usize)]) {
        if numbers.len() < 2 {
            return;
        }
        let text = ranges(numbers);
        let next = self.texts.len();
        let id = *self.ids.entry(text).or_insert_with_key(|text| {
            self.texts.push(text.clone());
            next
        });
        if let Some(cell) = row.cells.get_mut(hole) {
            *cell = Cell::Folded(id);
        }
    }

    fn text(&self, row: &Row) -> String {
        let mut text = String::with_capacity(self.key.len() + 8);
        let mut cells = row.cells.iter();
        for c in self.key.chars() {
            match (c, cells.as_slice().first()) {
                (HOLE, Some(Cell::Number(value, width))) => {
                    let _ = write!(text, "{value:0width$}");
                    cells.next();
                }
                (HOLE, Some(Cell::Folded(id))) => {
                    text.push_str(self.texts.get(*id).map_or("", String::as_str));
                    cells.next();
                }
                _ => text.push(c),
            }
        }
        text
    }
}

fn cmp_others(a: &Row, b: &Row, hole: usize) -> Ordering {
    a.cells
        .iter()
        .zip(&b.cells)
        .enumerate()
        .filter(|(index, _)| *index != hole)
        .map(|(_, (a, b))| a.cmp(b))
        .find(|order| *order != Ordering::Equal)
        .unwrap_or(Ordering::Equal)
}

fn number(row: &Row, hole: usize) -> Option<(u64, usize)> {
    match row.cells.get(hole) {
        Some(Cell::Number(value, width)) => Some((*value, *width)),
        _ => None,
    }
}

/// Splits a name into its shape and its numbers; false if it has to stay whole.
fn split(name: &str, key: &mut String, cells: &mut Vec<Cell>) -> bool {
    key.clear();
    cells.clear();
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        if matches!(c, '[' | ']' | ',') || c.is_whitespace() || c.is_control() {
            return false;
        }
        let is_digit = c.is_ascii_digit();
        let end = rest.find(|c: char| {
            c.is_ascii_digit() != is_digit || matches!(c, '[' | ']' | ',') || c.is_whitespace() || c.is_control()
        });
        let (part, after) = rest.split_at(end.unwrap_or(rest.len()));
        match part.parse() {
            Ok(value) if is_digit && part.len() <= MAX_DIGITS => {
                key.push(HOLE);
                cells.push(Cell::Number(value, part.len()));
            }
            _ => key.push_str(part),
        }
        rest = after;
    }
    true
}

/// Writes numbers, sorted by value and width, as `[1-3,7]`.
///
/// A number goes on with the range whose next number, padded as the range's first, is written as it is.
fn ranges(numbers: &[(u64, usize)]) -> String {
    struct Run {
        first: u64,
        last: u64,
        width: usize,
    }
    let mut runs: Vec<Run> = Vec::new();
    let mut expecting: HashMap<(u64, usize), usize> = HashMap::new();
    for (value, width) in numbers {
        let run = match expecting.remove(&(*value, *width)) {
            Some(run) => run,
            None => {
                runs.push(Run { first: *value, last: *value, width: *width });
                runs.len() - 1
            }
        };
        if let Some(open) = runs.get_mut(run) {
            open.last = *value;
            let next = value + 1;
            expecting.insert((next, open.width.max(digits(next))), run);
        }
    }
    let mut text = String::from("[");
    for (index, Run { first, last, width }) in runs.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = if first == last {
            write!(text, "{comma}{first:0width$}")
        } else {
            write!(text, "{comma}{first:0width$}-{last:0width$}")
        };
    }
    text.push(']');
    text
}

fn digits(value: u64) -> usize {
    value.checked_ilog10().map_or(1, |log| log as usize + 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::hostset::expand;

    #[test]
    fn names_fold_in_natural_order() {
        for (names, folded) in [
            ("", ""),
            ("a", "a"),
            ("web2 web1 web3 db1 web3", "db1,web[1-3]"),
            ("web08 web09 web10 web11", "web[08-11]"),
            ("n9 n10 n11", "n[9-11]"),
            ("n1 n01 n2 n02", "n[1-2,01-02]"),
            ("n1 n3 n5", "n[1,3,5]"),
            ("r1n1 r1n2 r2n1 r2n2", "r[1-2]n[1-2]"),
            ("r1n1 r1n2 r2n1", "r1n[1-2],r2n1"),
            ("web1.dc2.x web2.dc2.x", "web[1-2].dc2.x"),
            ("10.0.0.1 10.0.0.2 10.0.1.1 10.0.1.2", "10.0.[0-1].[1-2]"),
            ("[::1]:22 [::2]:22", "[::1]:22,[::2]:22"),
            ("fe80::1 fe80::2", "fe80::[1-2]"),
            ("a1234567890123456789012 a1234567890123456789013", "a1234567890123456789012,a1234567890123456789013"),
            ("b a c", "a,b,c"),
        ] {
            assert_eq!(fold(names.split_whitespace()), folded);
        }
    }

    fn same_set(names: &[String]) {
        let folded = fold(names);
        let wanted: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let back = expand(&folded).unwrap();
        assert_eq!(back.len(), wanted.len(), "{folded}");
        assert_eq!(back.iter().map(String::as_str).collect::<BTreeSet<_>>(), wanted, "{folded}");
    }

    proptest! {
        #[test]
        fn folding_keeps_the_set(names in prop::collection::vec("[ab]?[0-2]{1,3}[-.a/]?[0-1]{0,2}b?", 1..60)) {
            same_set(&names);
        }

        #[test]
        fn folding_keeps_any_set_of_names(names in prop::collection::vec(r"[^\[\],\s\p{Cc}]{1,6}", 1..20)) {
            same_set(&names);
        }

        #[test]
        fn the_order_of_names_does_not_matter(mut names in prop::collection::vec("[ab][0-3]{1,2}", 1..30)) {
            let folded = fold(&names);
            names.reverse();
            prop_assert_eq!(fold(&names), folded);
        }

        #[test]
        fn a_grid_folds_to_itself(racks in 1_u32..9, nodes in 1_u32..12) {
            let text = format!("r[0-{racks}]n[0-{nodes}].x");
            prop_assert_eq!(fold(expand(&text).unwrap()), text);
        }
    }
}
