//! Groups and the graph they form.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::Inventory;
use super::layer::Layer;
use super::set::Bits;

#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) name: Arc<str>,
    /// Where its header stands in the text.
    pub(super) offset: usize,
    pub(super) layer: Layer,
    /// The hosts it names directly, or that name it.
    pub(super) hosts: Vec<usize>,
    pub(super) children: Vec<usize>,
    pub(super) parents: Vec<usize>,
}

impl Inventory {
    /// Returns the groups reached upward from the ones given, with their distance from the host: nearest first, at equal
    /// distance in file order.
    pub(super) fn reach(&self, direct: &[usize]) -> Vec<(usize, usize)> {
        let mut seen: HashMap<usize, usize> = HashMap::new();
        let mut queue: VecDeque<(usize, usize)> = direct.iter().map(|id| (*id, 1)).collect();
        while let Some((id, distance)) = queue.pop_front() {
            if seen.contains_key(&id) {
                continue;
            }
            seen.insert(id, distance);
            queue.extend(self.group(id).parents.iter().map(|parent| (*parent, distance + 1)));
        }
        let mut reached: Vec<(usize, usize)> = seen.into_iter().collect();
        reached.sort_unstable_by_key(|(id, distance)| (*distance, *id));
        reached
    }

    /// Tells whether a group holds another one, through any number of children.
    pub(super) fn is_ancestor(&self, ancestor: usize, of: usize) -> bool {
        ancestor != of && self.reach(&[of]).iter().any(|(id, _)| *id == ancestor)
    }

    /// Returns the hosts of a group and of everything below it.
    pub(super) fn group_members(&self, id: usize) -> Bits {
        let mut members = Bits::default();
        let mut seen = Bits::default();
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            if seen.contains(id) {
                continue;
            }
            seen.insert(id);
            let group = self.group(id);
            members.extend(&group.hosts);
            open.extend(&group.children);
        }
        members
    }

    /// Says which groups a cycle is made of, and where each stands.
    pub(super) fn describe_cycle(&self, cycle: &[usize]) -> String {
        let named = cycle.iter().enumerate().map(|(index, id)| {
            let Group { name, offset, .. } = self.group(*id);
            // The last one is the first again.
            if index + 1 == cycle.len() { name.to_string() } else { format!("{name} ({})", self.place(*offset)) }
        });
        format!("groups form a cycle: {}", named.collect::<Vec<_>>().join(" → "))
    }

    /// Returns a cycle of groups, if there is one: each the parent of the next, the first one repeated at the end.
    pub(super) fn cycle(&self) -> Option<Vec<usize>> {
        let mut done = Bits::default();
        for start in 0..self.groups.len() {
            // The way from the start, with the children of each group that are still to be visited.
            let mut path: Vec<(usize, &[usize])> = vec![(start, &self.group(start).children)];
            while let Some((id, children)) = path.last_mut() {
                let Some((child, rest)) = children.split_first() else {
                    done.insert(*id);
                    path.pop();
                    continue;
                };
                *children = rest;
                if let Some(first) = path.iter().position(|(id, _)| id == child) {
                    return Some(path.iter().skip(first).map(|(id, _)| *id).chain([*child]).collect());
                }
                if !done.contains(*child) {
                    path.push((*child, &self.group(*child).children));
                }
            }
        }
        None
    }
}
