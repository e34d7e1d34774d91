//! The order in which people number hosts.

use std::cmp::Ordering;

/// Compares two names as people do: numbers by value, so `web2` comes before `web10`.
///
/// A total order: names that differ only in their padding are ordered by it, shorter first.
///
/// # Examples
///
/// ```
/// let mut names = ["web10", "web2", "web02"];
/// names.sort_by(|a, b| fleet::hostset::natural_cmp(a, b));
/// assert_eq!(names, ["web2", "web02", "web10"]);
/// ```
pub fn natural_cmp(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    let mut padding = Ordering::Equal;
    loop {
        let (Some((a, left_rest)), Some((b, right_rest))) = (left.split_first(), right.split_first()) else {
            return left.len().cmp(&right.len()).then(padding);
        };
        if a.is_ascii_digit() && b.is_ascii_digit() {
            let (a, left_rest) = split_number(left);
            let (b, right_rest) = split_number(right);
            let (a_value, b_value) = (trim_zeros(a), trim_zeros(b));
            let order = a_value.len().cmp(&b_value.len()).then_with(|| a_value.cmp(b_value));
            if order != Ordering::Equal {
                return order;
            }
            padding = padding.then(a.len().cmp(&b.len()));
            (left, right) = (left_rest, right_rest);
        } else {
            if a != b {
                return a.cmp(b);
            }
            (left, right) = (left_rest, right_rest);
        }
    }
}

fn split_number(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(bytes.len());
    bytes.split_at(end)
}

fn trim_zeros(digits: &[u8]) -> &[u8] {
    let end = digits.iter().position(|byte| *byte != b'0').unwrap_or(digits.len());
    digits.split_at(end).1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_ordered_by_value() {
        let mut names = ["b1", "a10b2", "a2", "a10", "a02", "a10b10", "a", "10.0.0.9", "10.0.0.10"];
        names.sort_by(|a, b| natural_cmp(a, b));
        assert_eq!(names, ["10.0.0.9", "10.0.0.10", "a", "a2", "a02", "a10", "a10b2", "a10b10", "b1"]);
    }

    proptest! {
        #[test]
        fn the_order_is_total(a in "[ab0-2.]{0,5}", b in "[ab0-2.]{0,5}", c in "[ab0-2.]{0,5}") {
            prop_assert_eq!(natural_cmp(&a, &b), natural_cmp(&b, &a).reverse());
            prop_assert_eq!(natural_cmp(&a, &b) == Ordering::Equal, a == b);
            if natural_cmp(&a, &b).is_le() && natural_cmp(&b, &c).is_le() {
                prop_assert!(natural_cmp(&a, &c).is_le());
            }
        }
    }
}
