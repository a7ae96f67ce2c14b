//! One page of memory, wherever its contents are at the moment.

use std::sync::Arc;

use lock_api::ArcMutexGuard;
use pmap::Frame;
use pmap::sim::Mutex;

use super::Machine;
use super::swap::SwapCopy;
use crate::trace::ObjectKind;

/// A page, shared by everything that refers to it.
pub type PageRef = Arc<Mutex<Page>>;
/// A locked page: nobody enters it into a page table meanwhile ("busy" in the pmap's words).
pub(super) type HeldPage = ArcMutexGuard<<Machine as pmap::Machine>::RawMutex, Page>;

/// Where a page's contents are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residence {
    /// In no frame: in the stored copy, or what a new page holds.
    Out,
    /// In a frame.
    In(Frame),
}

/// Whose page it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Private memory of the spaces that hold it; a new one is zero.
    Private,
    /// A page of an object.
    Object { object: u32, page: u64, kind: ObjectKind },
}

/// A page. Everything in it is protected by its lock.
#[derive(Debug)]
pub struct Page {
    pub(super) owner: Owner,
    pub(super) residence: Residence,
    /// Copy in swap, or in the file; as new as the frame unless that is dirty.
    pub(super) stored: Option<SwapCopy>,
    /// The contents exist nowhere else although nobody has written to this page: a private copy.
    pub(super) unsaved: bool,
    /// Address spaces that hold it in their tables of private pages.
    pub(super) holders: u32,
    /// May be thrown away instead of being saved, until the next store (advice FREE).
    pub(super) disposable: bool,
    /// Is in the reclaim queue.
    pub(super) queued: bool,
    /// Number of stores by accesses that held the lock.
    pub(super) stores: u64,
}

impl Page {
    pub(super) fn private(frame: Frame, unsaved: bool) -> PageRef {
        Arc::new(Mutex::new(Self {
            residence: Residence::In(frame),
            unsaved,
            holders: 1,
            ..Self::absent(Owner::Private)
        }))
    }

    pub(super) fn of_object(object: u32, page: u64, kind: ObjectKind) -> PageRef {
        Arc::new(Mutex::new(Self::absent(Owner::Object { object, page, kind })))
    }

    fn absent(owner: Owner) -> Self {
        Self {
            owner,
            residence: Residence::Out,
            stored: None,
            unsaved: false,
            holders: 0,
            disposable: false,
            queued: false,
            stores: 0,
        }
    }

    /// Where its contents are.
    #[must_use]
    pub fn residence(&self) -> Residence {
        self.residence
    }

    /// Whether it is a private page that more than one space holds, so that a store needs a copy.
    pub(super) fn is_shared_copy(&self) -> bool {
        self.holders > 1
    }

    pub(super) fn is_kernel(&self) -> bool {
        matches!(self.owner, Owner::Object { kind: ObjectKind::Kernel, .. })
    }

    pub(super) fn is_file(&self) -> bool {
        matches!(self.owner, Owner::Object { kind: ObjectKind::File, .. })
    }
}
