//! Memory objects: the pages of a file, or of anonymous memory that several spaces share.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use pmap::PAGE_SIZE;

use super::Vm;
use super::page::{Origin, Page, PageRef};
use crate::sched::Mutex;

/// An object. Its pages exist once, whoever maps it.
pub(crate) struct Object {
    vm: &'static Vm,
    /// The file's bytes; none for anonymous memory.
    bytes: &'static [u8],
    pages: Mutex<BTreeMap<u64, PageRef>>,
}

impl Object {
    /// Anonymous memory, zero at first.
    #[must_use]
    pub(crate) fn anonymous(vm: &'static Vm) -> Arc<Self> {
        Self::file(vm, &[])
    }

    /// A file. Behind its end there are zeroes.
    #[must_use]
    pub(crate) fn file(vm: &'static Vm, bytes: &'static [u8]) -> Arc<Self> {
        Arc::new(Self { vm, bytes, pages: Mutex::default() })
    }

    /// Page `number` of it.
    pub(super) fn page(&self, number: u64) -> PageRef {
        let new = || {
            let size = PAGE_SIZE as usize;
            let start = usize::try_from(number).ok().and_then(|n| n.checked_mul(size)).unwrap_or(usize::MAX);
            let rest = self.bytes.get(start..).unwrap_or_default();
            let origin = match rest.len() {
                0 => Origin::Zeroes,
                length => Origin::File(&rest[..length.min(size)]),
            };
            Arc::new(Mutex::new(Page::absent(origin)))
        };
        self.pages.lock().entry(number).or_insert_with(new).clone()
    }
}

impl Drop for Object {
    /// The last mapping of it is gone: nobody sees its pages any more.
    fn drop(&mut self) {
        self.pages.get_mut().values().for_each(|page| self.vm.let_go(page));
    }
}
