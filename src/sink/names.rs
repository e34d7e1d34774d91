//! Many host names in one short phrase.

/// The most characters of names that a message shows.
const MAX_LEN: usize = 240;

/// Writes host names as one folded expression, such as `db1,web[01-12]`; cut short with `,…` when it would not fit a message.
pub fn fold_names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let folded = crate::hostset::fold(names);
    let mut depth = 0_usize;
    let mut cut = None;
    for (at, c) in folded.char_indices() {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            ',' if depth == 0 && at <= MAX_LEN => cut = Some(at),
            _ => {}
        }
    }
    match cut.and_then(|at| folded.split_at_checked(at)) {
        Some((start, _)) if folded.len() > MAX_LEN => format!("{start},…"),
        _ => folded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_do_not_fit_are_cut_between_terms() {
        assert_eq!(fold_names(["web2", "web1", "db"]), "db,web[1-2]");
        let names: Vec<String> = (0..26).map(|n| char::from(b'a' + n).to_string().repeat(20)).collect();
        let folded = fold_names(names.iter().map(String::as_str));
        assert!(folded.len() <= MAX_LEN + 5 && folded.ends_with("k,…"), "{folded}");
    }
}
