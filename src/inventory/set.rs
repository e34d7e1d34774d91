//! Sets of hosts by their place in the file.

/// A set of small numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    /// Makes the set of all numbers below a limit.
    pub(super) fn full(limit: usize) -> Self {
        let mut words = vec![u64::MAX; limit / 64];
        if !limit.is_multiple_of(64) {
            words.push((1 << (limit % 64)) - 1);
        }
        Self(words)
    }

    pub(super) fn insert(&mut self, id: usize) {
        if self.0.len() <= id / 64 {
            self.0.resize(id / 64 + 1, 0);
        }
        if let Some(word) = self.0.get_mut(id / 64) {
            *word |= 1 << (id % 64);
        }
    }

    pub(super) fn extend<'i>(&mut self, ids: impl IntoIterator<Item = &'i usize>) {
        for id in ids {
            self.insert(*id);
        }
    }

    pub(super) fn contains(&self, id: usize) -> bool {
        self.0.get(id / 64).is_some_and(|word| word >> (id % 64) & 1 == 1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Returns the numbers, rising.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(index, word)| {
            let mut word = *word;
            std::iter::from_fn(move || {
                let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
                word &= word - 1;
                Some(index * 64 + bit)
            })
        })
    }

    pub(super) fn union(&mut self, other: &Self) {
        self.merge(other, |a, b| a | b);
    }

    pub(super) fn subtract(&mut self, other: &Self) {
        self.merge(other, |a, b| a & !b);
    }

    pub(super) fn intersect(&mut self, other: &Self) {
        self.merge(other, |a, b| a & b);
    }

    fn merge(&mut self, other: &Self, with: impl Fn(u64, u64) -> u64) {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        for (word, other) in self.0.iter_mut().zip(other.0.iter().chain(std::iter::repeat(&0))) {
            *word = with(*word, *other);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bits_are_a_set(a: BTreeSet<u8>, b: BTreeSet<u8>) {
            let bits = |set: &BTreeSet<u8>| {
                let mut bits = Bits::default();
                set.iter().for_each(|id| bits.insert(usize::from(*id)));
                bits
            };
            let check = |with: fn(&mut Bits, &Bits), wanted: BTreeSet<u8>| {
                let mut result = bits(&a);
                with(&mut result, &bits(&b));
                assert!(result.iter().eq(wanted.iter().map(|id| usize::from(*id))));
                assert_eq!(result.is_empty(), wanted.is_empty());
            };
            check(Bits::union, &a | &b);
            check(Bits::subtract, &a - &b);
            check(Bits::intersect, &a & &b);
        }

        #[test]
        fn a_full_set_ends_at_its_limit(limit in 0_usize..200) {
            prop_assert!(Bits::full(limit).iter().eq(0..limit));
        }
    }
}
