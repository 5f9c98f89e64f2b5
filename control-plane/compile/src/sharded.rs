//! A map of which copies are cheap: many shards, each shared until one of its entries changes.
//!
//! A snapshot of 100,000 workloads is copied for every endpoint change; a plain map would copy
//! all entries, this one copies the shard concerned.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

const SHARDS: usize = 256;

/// The map.
#[derive(Clone, Debug)]
pub(crate) struct Sharded<K, V> {
    shards: Vec<Arc<HashMap<K, V>>>,
}

impl<K, V> Default for Sharded<K, V> {
    fn default() -> Self {
        let empty = Arc::new(HashMap::new());
        Self {
            shards: vec![empty; SHARDS],
        }
    }
}

fn shard_of<Q: Hash + ?Sized>(key: &Q) -> usize {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    // The remainder is below SHARDS, so it fits.
    (hasher.finish() % SHARDS as u64) as usize
}

impl<K: Hash + Eq + Clone, V: Clone + PartialEq> Sharded<K, V> {
    pub(crate) fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.shards[shard_of(key)].get(key)
    }

    /// Makes `value` the value of `key`, `None` removes it. Whether that changed anything.
    pub(crate) fn put(&mut self, key: K, value: Option<V>) -> bool {
        let shard = &mut self.shards[shard_of(&key)];
        if shard.get(&key) == value.as_ref() {
            return false;
        }
        let shard = Arc::make_mut(shard);
        match value {
            Some(value) => shard.insert(key, value),
            None => shard.remove(&key),
        };
        true
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }
}
