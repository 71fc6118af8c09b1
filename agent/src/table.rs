//! The containers of the guest, by id.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::container::Container;
use crate::error::CallError;

/// Most containers at once. A shim that creates without end would otherwise
/// exhaust the guest's memory through the agent.
pub const MAX_CONTAINERS: usize = 128;

#[derive(Default)]
pub struct Table {
    slots: Mutex<HashMap<String, Slot>>,
}

enum Slot {
    Creating,
    Ready(Arc<Container>),
}

impl Table {
    /// Takes the id, so that no second creation can. It is free again when the
    /// reservation is dropped unfilled.
    pub fn reserve(self: &Arc<Self>, id: &str) -> Result<Reservation, CallError> {
        let mut slots = self.lock();
        if slots.contains_key(id) {
            return Err(CallError::Exists(id.to_owned()));
        }
        if slots.len() >= MAX_CONTAINERS {
            return Err(CallError::TooMany(MAX_CONTAINERS));
        }
        slots.insert(id.to_owned(), Slot::Creating);
        Ok(Reservation { table: self.clone(), id: id.to_owned(), filled: false })
    }

    /// The container of this id.
    pub fn get(&self, id: &str) -> Result<Arc<Container>, CallError> {
        match self.lock().get(id) {
            Some(Slot::Ready(container)) => Ok(container.clone()),
            Some(Slot::Creating) => Err(CallError::Creating(id.to_owned())),
            None => Err(CallError::NoContainer(id.to_owned())),
        }
    }

    pub fn remove(&self, id: &str) {
        self.lock().remove(id);
    }

    pub fn all(&self) -> Vec<Arc<Container>> {
        let ready = |slot: &Slot| match slot {
            Slot::Ready(container) => Some(container.clone()),
            Slot::Creating => None,
        };
        self.lock().values().filter_map(ready).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An id that is taken by a container that is being created.
pub struct Reservation {
    table: Arc<Table>,
    id: String,
    filled: bool,
}

impl Reservation {
    /// Puts the created container into the table.
    pub fn fill(mut self, container: Arc<Container>) {
        self.filled = true;
        self.table.lock().insert(self.id.clone(), Slot::Ready(container));
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.filled {
            self.table.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests;
