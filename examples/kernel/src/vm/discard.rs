//! Throwing away what private memory holds.

use pmap::VirtRange;

use super::Space;

impl Space {
    /// Throws the private pages of `range` away: what is mapped there shows zeroes, or its object, again. On return no CPU reaches the
    /// old pages. Nothing happens to shared memory, but its translations.
    pub(crate) fn discard(&self, range: VirtRange) {
        let pages = {
            // No fault is under way while the pages go out of the table. One that comes later finds a new page; its mapping, if it is there before the
            // removal below, is removed too, and the page stays for the next fault.
            let _map = self.map.write();
            self.take_private(range)
        };
        self.pmap.remove(range);
        pages.iter().for_each(|page| self.vm.let_go(page));
    }
}
