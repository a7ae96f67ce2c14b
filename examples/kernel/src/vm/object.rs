//! Memory objects: the pages of a file, or of anonymous memory that several spaces share.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use pmap::PAGE_SIZE;

use super::Vm;
use super::page::{Origin, Page, PageRef};
use crate::sched::Mutex;

/// What an object holds before anybody stores to it.
enum Contents {
    /// These bytes, then zeroes. Anonymous memory has none.
    Bytes(&'static [u8]),
    /// What is made up for this number.
    MadeUp(u32),
}

impl Contents {
    fn page(&self, number: u64) -> Origin {
        let bytes = match self {
            Self::Bytes(bytes) => bytes,
            Self::MadeUp(file) => return Origin::MadeUp { file: *file, page: number },
        };
        let size = PAGE_SIZE as usize;
        let start = usize::try_from(number).ok().and_then(|n| n.checked_mul(size)).unwrap_or(usize::MAX);
        let rest = bytes.get(start..).unwrap_or_default();
        match rest.len() {
            0 => Origin::Zeroes,
            length => Origin::File(&rest[..length.min(size)]),
        }
    }
}

/// An object. Its pages exist once, whoever maps it.
pub(crate) struct Object {
    vm: &'static Vm,
    contents: Contents,
    pages: Mutex<BTreeMap<u64, PageRef>>,
}

impl Object {
    /// Anonymous memory, zero at first.
    #[must_use]
    pub(crate) fn anonymous(vm: &'static Vm) -> Arc<Self> {
        Self::new(vm, Contents::Bytes(&[]))
    }

    /// A file. Behind its end there are zeroes.
    #[must_use]
    pub(crate) fn file(vm: &'static Vm, bytes: &'static [u8]) -> Arc<Self> {
        Self::new(vm, Contents::Bytes(bytes))
    }

    /// A file that has only a number: [`made_up_word`](super::made_up_word) says what is in it.
    #[must_use]
    pub(crate) fn made_up(vm: &'static Vm, file: u32) -> Arc<Self> {
        Self::new(vm, Contents::MadeUp(file))
    }

    fn new(vm: &'static Vm, contents: Contents) -> Arc<Self> {
        Arc::new(Self { vm, contents, pages: Mutex::default() })
    }

    /// Page `number` of it.
    pub(super) fn page(&self, number: u64) -> PageRef {
        let new = || Arc::new(Mutex::new(Page::absent(self.contents.page(number))));
        self.pages.lock().entry(number).or_insert_with(new).clone()
    }
}

impl Drop for Object {
    /// The last mapping of it is gone: nobody sees its pages any more.
    fn drop(&mut self) {
        self.pages.get_mut().values().for_each(|page| self.vm.let_go(page));
    }
}
