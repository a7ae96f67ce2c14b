//! Doubly linked lists through fields of their elements, one such field per list that an element can be in.
//!
//! Everything here is reached under the one lock of its table, so plain cells are enough, and a shared reference
//! may change a list. Elements are alive while linked; that is what the `unsafe` functions ask for.

use core::cell::Cell;
use core::marker::PhantomData;
use core::ptr::NonNull;

/// The field of an element for one list.
pub(super) struct Links<T> {
    next: Cell<Option<NonNull<T>>>,
    previous: Cell<Option<NonNull<T>>>,
}

impl<T> Default for Links<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Links<T> {
    pub(super) const fn new() -> Self {
        Self { next: Cell::new(None), previous: Cell::new(None) }
    }
}

/// Which field of an element a list goes through.
pub(super) trait Linked<Field>: Sized {
    fn links(&self) -> &Links<Self>;
}

/// A list of `T` through the field that `Field` names.
pub(super) struct List<T, Field> {
    head: Cell<Option<NonNull<T>>>,
    tail: Cell<Option<NonNull<T>>>,
    field: PhantomData<Field>,
}

impl<T: Linked<Field>, Field> List<T, Field> {
    pub(super) const fn new() -> Self {
        Self { head: Cell::new(None), tail: Cell::new(None), field: PhantomData }
    }

    /// Links `element` behind the last element for which `stays_ahead` holds, looking from the end.
    ///
    /// # Safety
    ///
    /// `element` is in no list through this field, and stays at its place, alive, until it is unlinked.
    pub(super) unsafe fn insert(&self, element: &T, stays_ahead: impl Fn(&T) -> bool) {
        let mut before = self.tail.get();
        while let Some(candidate) = before {
            // SAFETY: linked elements are alive.
            let candidate = unsafe { candidate.as_ref() };
            if stays_ahead(candidate) {
                break;
            }
            before = candidate.links().previous.get();
        }
        let this = Some(NonNull::from(element));
        let after = match before {
            // SAFETY: linked elements are alive.
            Some(before) => unsafe { before.as_ref() }.links().next.replace(this),
            None => self.head.replace(this),
        };
        match after {
            // SAFETY: linked elements are alive.
            Some(after) => unsafe { after.as_ref() }.links().previous.set(this),
            None => self.tail.set(this),
        }
        element.links().previous.set(before);
        element.links().next.set(after);
    }

    /// Links `element` at the end.
    ///
    /// # Safety
    ///
    /// As for [`insert`](Self::insert).
    pub(super) unsafe fn push(&self, element: &T) {
        // SAFETY: the caller's promise.
        unsafe { self.insert(element, |_| true) };
    }

    /// # Safety
    ///
    /// `element` is in this list.
    pub(super) unsafe fn unlink(&self, element: &T) {
        let (previous, next) = (element.links().previous.take(), element.links().next.take());
        match previous {
            // SAFETY: the neighbours of a linked element are linked, hence alive.
            Some(previous) => unsafe { previous.as_ref() }.links().next.set(next),
            None => self.head.set(next),
        }
        match next {
            // SAFETY: as above.
            Some(next) => unsafe { next.as_ref() }.links().previous.set(previous),
            None => self.tail.set(previous),
        }
    }

    /// The elements, from the first on. The one that was returned last may be unlinked, or moved, before the next
    /// is asked for; no other may.
    ///
    /// # Safety
    ///
    /// The references are not used after their elements were unlinked and let go.
    pub(super) unsafe fn iter<'a>(&self) -> impl Iterator<Item = &'a T> + use<'a, T, Field>
    where
        T: 'a,
    {
        let mut at = self.head.get();
        core::iter::from_fn(move || {
            // SAFETY: linked elements are alive, and the caller keeps to the rule above.
            let element = unsafe { at?.as_ref() };
            at = element.links().next.get();
            Some(element)
        })
    }
}
