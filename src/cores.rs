//! Work that is bound by the processor, on all of its cores.

use rayon::ThreadPoolBuilder;
use rayon::prelude::*;

/// Returns what a function makes of each item, in their order: by a thread for each core, or by this one alone where there is little to do
/// or the system gives no more threads.
pub(crate) fn map<I: Send, T: Send>(items: Vec<I>, each: impl Fn(I) -> T + Send + Sync) -> Vec<T> {
    // The pool that rayon makes by itself panics where it gets no thread.
    let pool = (items.len() > 1).then(|| ThreadPoolBuilder::new().thread_name(|n| format!("fleet-core-{n}")).build());
    match pool {
        Some(Ok(pool)) => pool.install(|| items.into_par_iter().map(each).collect()),
        _ => items.into_iter().map(each).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items() {
        for count in [0, 1, 2, 1000] {
            let items: Vec<usize> = (0..count).collect();
            assert_eq!(map(items.clone(), |item| item + 1), items.iter().map(|item| item + 1).collect::<Vec<_>>());
        }
    }
}
