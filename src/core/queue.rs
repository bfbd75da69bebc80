//! Which mirrors are to be looked at: keys only, each once, and the links take turns, so that
//! ten thousand mirrors of one link do not delay one of another.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::model::Key;

/// Keys in lanes; [`FairQueue::pop`] serves the lanes in turn.
#[derive(Debug, Default)]
pub struct FairQueue {
    lanes: BTreeMap<String, VecDeque<Key>>,
    queued: BTreeSet<Key>,
    last: Option<String>,
}

impl FairQueue {
    /// Puts a key at the end of a lane, unless it waits already.
    pub fn push(&mut self, lane: &str, key: Key) {
        if self.queued.insert(key.clone()) {
            match self.lanes.get_mut(lane) {
                Some(keys) => keys.push_back(key),
                None => {
                    self.lanes.insert(lane.to_owned(), VecDeque::from([key]));
                }
            }
        }
    }

    /// The next key, from the lane after the one that was served last.
    pub fn pop(&mut self) -> Option<Key> {
        let after = self.last.take().unwrap_or_default();
        let next =
            self.lanes.range::<String, _>((std::ops::Bound::Excluded(&after), std::ops::Bound::Unbounded)).next();
        let lane = next.or_else(|| self.lanes.iter().next())?.0.clone();
        let keys = self.lanes.get_mut(&lane)?;
        let key = keys.pop_front();
        if keys.is_empty() {
            self.lanes.remove(&lane);
        }
        self.last = Some(lane);
        if let Some(key) = &key {
            self.queued.remove(key);
        }
        key
    }

    /// Number of waiting keys.
    pub fn waiting(&self) -> usize {
        self.queued.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_take_turns_and_keys_wait_once() {
        let mut queue = FairQueue::default();
        for i in 0..3 {
            queue.push("big", Key::new("a", i.to_string()));
            queue.push("big", Key::new("a", i.to_string()));
        }
        queue.push("small", Key::new("b", "0"));
        assert_eq!(queue.waiting(), 4);
        let order: Vec<String> = std::iter::from_fn(|| queue.pop()).map(|k| k.to_string()).collect();
        assert_eq!(order, ["a/0", "b/0", "a/1", "a/2"]);
        assert_eq!(queue.waiting(), 0);
    }
}
