//! The nearest valid spelling of a word.

/// Returns `: did you mean "…"?` where a candidate is near, else nothing.
pub(super) fn did_you_mean<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> String {
    nearest(word, candidates).map(|found| format!(": did you mean \"{found}\"?")).unwrap_or_default()
}

/// Returns the candidate that differs least, if it differs in at most about a third of the word.
pub(super) fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let len = word.chars().count();
    let limit = len.div_ceil(3);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(word.len()) <= 4 * limit)
        .map(|candidate| (strsim::osa_distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_near_words_are_offered() {
        let keys = ["user", "port", "identity", "host_key"];
        assert_eq!(nearest("usr", keys), Some("user"));
        assert_eq!(nearest("identify", keys), Some("identity"));
        assert_eq!(nearest("hostkey", keys), Some("host_key"));
        assert_eq!(nearest("colour", keys), None);
    }
}
