//! Images and kernels that something is being made from now: nobody deletes them meanwhile.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use banger_types::Refusal;

/// What is held, by id.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<HashMap<String, Holders>>);

#[derive(Debug)]
enum Holders {
    /// So many want it to stay.
    Some(usize),
    /// Somebody deletes it.
    Deleter,
}

/// As long as this is there, a thing stays; or, whoever has it deletes the thing.
#[derive(Debug)]
pub(crate) struct Hold {
    held: Arc<Held>,
    id: String,
}

impl Held {
    /// Keeps a thing from being deleted, unless it just is.
    pub(super) fn hold(self: &Arc<Self>, id: &str) -> Option<Hold> {
        match self.holders().entry(id.to_owned()) {
            Entry::Vacant(entry) => drop(entry.insert(Holders::Some(1))),
            Entry::Occupied(mut entry) => match entry.get_mut() {
                Holders::Some(count) => *count += 1,
                Holders::Deleter => return None,
            },
        }
        Some(Hold { held: Arc::clone(self), id: id.to_owned() })
    }

    /// Keeps everybody from holding a thing, unless somebody does: then the refusal says whether that is a deleter, too.
    pub(super) fn delete(self: &Arc<Self>, id: &str) -> Result<Hold, Refusal> {
        match self.holders().entry(id.to_owned()) {
            Entry::Vacant(entry) => drop(entry.insert(Holders::Deleter)),
            Entry::Occupied(entry) => {
                return Err(match entry.get() {
                    Holders::Some(_) => Refusal::InUse,
                    Holders::Deleter => Refusal::Deleting,
                });
            }
        }
        Ok(Hold { held: Arc::clone(self), id: id.to_owned() })
    }

    /// Returns whether anybody wants a thing to stay.
    pub(super) fn is_held(&self, id: &str) -> bool {
        matches!(self.holders().get(id), Some(Holders::Some(_)))
    }

    fn holders(&self) -> std::sync::MutexGuard<'_, HashMap<String, Holders>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut holders = self.held.holders();
        match holders.get_mut(&self.id) {
            Some(Holders::Some(count)) if *count > 1 => *count -= 1,
            _ => drop(holders.remove(&self.id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_not_deleted_and_what_is_being_deleted_is_not_held() {
        let held = Arc::new(Held::default());
        let (one, other) = (held.hold("a"), held.hold("a"));
        assert!(one.is_some() && other.is_some() && held.is_held("a"));
        drop(one);
        assert_eq!(held.delete("a").unwrap_err(), Refusal::InUse);
        drop(other);
        assert!(!held.is_held("a"));
        let deleter = held.delete("a").unwrap();
        assert!(held.hold("a").is_none());
        assert_eq!(held.delete("a").unwrap_err(), Refusal::Deleting);
        assert!(!held.is_held("a") && held.hold("b").is_some());
        drop(deleter);
        assert!(held.hold("a").is_some());
    }
}
