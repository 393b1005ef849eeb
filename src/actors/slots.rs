//! A slot for each id whose actor was asked for lately, and the lock under which that actor is started
//! and retired.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Mutex, MutexGuard};

use crate::limits::ACTOR_WAIT_MAX;

use super::failure::Failure;

/// What a slot keeps.
pub trait Resident {
    /// It still takes requests.
    fn is_running(&self) -> bool;
}

/// A slot for each id that was asked for lately.
pub struct Slots<Id, Handle>(RwLock<HashMap<Id, Arc<Slot<Handle>>>>);

pub struct Slot<Handle> {
    /// The last actor that was started, running or not; none once it was retired.
    last: ArcSwapOption<Handle>,
    /// Held by who starts or retires the actor.
    lock: Mutex<()>,
    /// The slot is no longer in the map: look there again.
    forgotten: AtomicBool,
    /// Asked for since [`Slots::idle`] last looked.
    used: AtomicBool,
}

impl<Id, Handle> Default for Slots<Id, Handle> {
    fn default() -> Self {
        Self(RwLock::new(HashMap::new()))
    }
}

impl<Id: Copy + Eq + Hash, Handle: Resident> Slots<Id, Handle> {
    pub fn running(&self, id: Id) -> Option<Arc<Handle>> {
        let slots = self.0.read().unwrap_or_else(PoisonError::into_inner);
        slots.get(&id)?.running()
    }

    pub fn knows(&self, id: Id) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(&id)
    }

    /// As [`Slots::running`], without counting as having asked for it.
    pub fn peek(&self, id: Id) -> Option<Arc<Handle>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&id)?.peek()
    }

    pub fn slot(&self, id: Id) -> Arc<Slot<Handle>> {
        let mut slots = self.0.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(id).or_default())
    }

    /// Takes a slot without an actor out of the map. Whoever waits for its lock looks again.
    pub fn forget(&self, id: Id, slot: &Arc<Slot<Handle>>, locked: MutexGuard<'_, ()>) {
        let mut slots = self.0.write().unwrap_or_else(PoisonError::into_inner);
        slot.forgotten.store(true, Ordering::Release);
        if slots.get(&id).is_some_and(|current| Arc::ptr_eq(current, slot)) {
            slots.remove(&id);
        }
        drop(locked);
    }

    /// Takes every slot out of the map; answers the actors that were started last.
    pub fn take(&self) -> Vec<Arc<Handle>> {
        let mut slots = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let taken = std::mem::take(&mut *slots).into_values().filter_map(|slot| {
            slot.forgotten.store(true, Ordering::Release);
            slot.last.swap(None)
        });
        taken.collect()
    }

    /// Those that nobody asked for since this was last called.
    pub fn idle(&self) -> Vec<Id> {
        let slots = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let is_idle = |slot: &Slot<Handle>| !slot.used.swap(false, Ordering::Relaxed);
        slots.iter().filter(|(_, slot)| is_idle(slot)).map(|(id, _)| *id).collect()
    }
}

impl<Handle> Default for Slot<Handle> {
    fn default() -> Self {
        Self {
            last: ArcSwapOption::empty(),
            lock: Mutex::new(()),
            forgotten: AtomicBool::new(false),
            used: AtomicBool::new(true),
        }
    }
}

impl<Handle: Resident> Slot<Handle> {
    pub fn last(&self) -> Option<Arc<Handle>> {
        self.last.load_full()
    }

    pub fn running(&self) -> Option<Arc<Handle>> {
        let handle = self.peek()?;
        self.used.store(true, Ordering::Relaxed);
        Some(handle)
    }

    pub fn peek(&self) -> Option<Arc<Handle>> {
        let handle = self.last.load();
        handle.as_ref().filter(|handle| handle.is_running()).map(Arc::clone)
    }

    /// `None` when somebody has it, or the slot was forgotten.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, ()>> {
        let locked = self.lock.try_lock().ok()?;
        (!self.forgotten.load(Ordering::Acquire)).then_some(locked)
    }

    /// `None` when the slot was forgotten meanwhile.
    pub async fn lock(&self) -> Result<Option<MutexGuard<'_, ()>>, Failure> {
        // One wait for the actor to come to rest, one to load it.
        let patience: Duration = ACTOR_WAIT_MAX * 2;
        let locked = tokio::time::timeout(patience, self.lock.lock())
            .await
            .map_err(|_| Failure::Overloaded { what: "the actor to start" })?;
        Ok((!self.forgotten.load(Ordering::Acquire)).then_some(locked))
    }

    pub fn start(&self, handle: &Arc<Handle>) {
        self.last.store(Some(Arc::clone(handle)));
    }

    pub fn clear(&self) {
        self.last.store(None);
    }
}
